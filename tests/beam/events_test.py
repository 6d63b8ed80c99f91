"""Subscribers and lookups of nodes that use evermap, whatever happens to the mapper and its registry."""

import os
import re
import select
import signal
import socket
import subprocess
import time
import unittest
import unittest.mock

import harness
from harness import EPMD, EPMDCTL, scaled, wait_until
from harness.beam import APPLICATION, BeamNode, NodesCase, have_application
from harness.epmdctl import status

KILLS = scaled('EVERMAP_KILLS', 100, least=5)
NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY') or EPMD + '_next_layout'
NEXT_EPMDCTL = os.environ.get('EPMDCTL_NEXT_LAYOUT') or EPMDCTL + '_next_layout'


@harness.ours_only
@harness.have_erlang
@have_application
class EventsTest(NodesCase):

    def setUp(self):
        super().setUp()
        self.node = BeamNode('watching', self.mapper, self.directory, tests=self.tests)
        self.addCleanup(self.node.close)
        self.assertEqual(self.node.evaluate('application:start(evermap)'), 'ok')
        self.assertEqual(self.node.evaluate('evermap_test_view:start()'), 'ok')
        # {name: (connection, listener)}. The listener is what an orphan is judged by.
        self.nodes = {}
        self.addCleanup(self.close_all)

    def close_all(self):
        for name in list(self.nodes):
            self.unregister(name)

    def register(self, name):
        listener = socket.create_server(('127.0.0.1', 0))
        self.nodes[name] = self.connected(name, listener), listener

    def connected(self, name, listener):
        def tried():
            try:
                return self.mapper.register(name.encode(), port=listener.getsockname()[1])[0]
            except (OSError, AssertionError):
                return None
        return wait_until(tried, f'{name} is registered')

    def register_again(self):
        """The connection of a node that registered in the moment before a mapper was killed is not stored yet, and lost: the node
        comes back, as one of OTP 24 or later does."""
        for name, (connection, listener) in list(self.nodes.items()):
            if select.select([connection], [], [], 0)[0]:
                connection.close()
                self.nodes[name] = self.connected(name, listener), listener

    def unregister(self, name):
        for each in self.nodes.pop(name):
            each.close()

    def change(self, number):
        """Some node comes or goes."""
        name = f'n{number * 7 % 20}'
        if name in self.nodes:
            self.unregister(name)
        else:
            self.register(name)

    def true_names(self):
        """As the mapper tells all, by TCP."""
        reply = self.mapper.request(b'n')[4:].decode()
        names = sorted((name, int(port)) for name, port in re.findall(r'^name (\S+) at port (\d+)$', reply, re.M))
        return '[' + ','.join(f'{{<<"{name}">>,{port}}}' for name, port in names) + ']'

    def seen_names(self):
        return self.node.evaluate('evermap_test_view:names()')

    def check_nothing_is_missed(self):
        """Once it is quiet."""
        wait_until(lambda: self.true_names().count('{') == len(self.nodes) + 1,
                   lambda: f'the mapper knows who is there: {self.true_names()}, not {sorted(self.nodes)}')
        wait_until(lambda: self.seen_names() == self.true_names(),
                   lambda: f'the subscriber has seen all: {self.seen_names()} and {self.true_names()}')
        self.assertEqual(self.node.evaluate('evermap_test_view:mistakes()'), '[]')

    def test_mapper_is_killed(self):
        for number in range(KILLS):
            self.change(2 * number)
            pid = status(self.mapper)['pid']
            os.kill(pid, signal.SIGKILL)
            self.assertIn('source => registry', self.node.evaluate('evermap:lookup(watching)'))
            self.change(2 * number + 1)
            wait_until(lambda: status(self.mapper)['pid'] not in (0, pid), 'another mapper serves')
        self.register_again()
        self.check_nothing_is_missed()
        # Nobody who stayed was told to have left.
        self.assertNotIn('down,<<"watching">>', self.node.evaluate('sys:get_state(evermap_watcher)'))

    def test_mapper_is_upgraded(self):
        for number in range(scaled('EVERMAP_UPGRADES', 20, least=3)):
            self.change(number)
            done = self.mapper.upgraded()
            self.assertEqual(done.returncode, 0, done)
            self.change(100 + number)
        self.check_nothing_is_missed()

    @unittest.skipUnless(os.path.exists(NEXT_LAYOUT), 'no mapper with another layout')
    def test_layout_is_migrated(self):
        """To one that the reader does not know: it asks the mapper then, as it says."""
        reads_both = unittest.mock.patch('harness.epmdctl.EPMDCTL', NEXT_EPMDCTL)
        reads_both.start()
        self.addCleanup(reads_both.stop)
        for number in range(3):
            self.change(number)
        self.mapper.ask_for(NEXT_LAYOUT)
        for number in range(3, 6):
            self.change(number)
        wait_until(lambda: ' runs ' in self.mapper.log(), lambda: f'the migration: {self.mapper.log()}')
        for number in range(6, 9):
            self.change(number)
        self.check_nothing_is_missed()
        self.assertIn('unknown_layout', self.node.evaluate('evermap:info()'))
        self.assertIn('source => mapper', self.node.evaluate('evermap:lookup(watching)'))
        with BeamNode('other', self.mapper, self.directory, tests=self.tests) as other:
            host = self.node.evaluate('node()').strip("'").split('@')[1]
            self.assertEqual(other.evaluate(f"net_adm:ping('watching@{host}')"), 'pong')

    def test_registry_is_removed(self):
        for number in range(scaled('EVERMAP_REMOVALS', 8, least=2)):
            self.change(number)
            os.unlink(self.mapper.registry)
            self.change(100 + number)
            wait_until(lambda: os.path.exists(self.mapper.registry), 'the registry is put back')
            self.change(200 + number)
        self.check_nothing_is_missed()
        wait_until(lambda: 'source => registry' in self.node.evaluate('evermap:lookup(watching)'), 'it is read again')

    def test_all_mappers_end(self):
        """Keeper and mapper: what is known stays, until a new mapper knows otherwise."""
        self.change(1)
        self.check_nothing_is_missed()
        wait_until(self.mapper.all_killed, 'all are killed')
        self.assertIn('source => registry', self.node.evaluate('evermap:lookup(watching)'))
        before = self.seen_names()
        self.mapper.stop(signal.SIGKILL)
        time.sleep(0.5)
        self.assertEqual(self.seen_names(), before)
        self.mapper.start()
        # What cannot say that it still runs is registered for a while.
        wait_until(lambda: self.true_names() == before == self.seen_names(), 'all are known again')
        wait_until(lambda: '"watching">>' in self.node.evaluate('[N || {_, _, N, _, _, _, live, _, _, _, _, _} <- '
                                                                'element(2, evermap_registry:entries())]'),
                   'the node has registered again')
        self.assertEqual(self.node.evaluate('evermap_test_view:mistakes()'), '[]')

    @harness.as_root_only
    def test_registry_of_another_network_namespace(self):
        """As in a container into which /run/evermap of its host is mounted: its ports are no ports here."""
        self.register('elsewhere')
        command = ['unshare', '-n', 'erl', '-noshell', '-pa', os.path.join(APPLICATION, 'ebin'), '-evermap_registry',
                   self.mapper.registry, '-eval',
                   'io:format("~0p ~0p~n", [evermap:info(), evermap:lookup("elsewhere")]), halt().']
        said = subprocess.run(command, capture_output=True, text=True, env=harness.clean_environment(ERL_EPMD_PORT=1), check=True)
        self.assertIn('other_namespace', said.stdout)
        self.assertIn('{error,not_found}', said.stdout)

    @harness.as_root_only
    def test_hostile_readers(self):
        """All the watches that the kernel gives to a user, reading all the time, and trying to change the file."""
        os.chmod(self.mapper.directory, 0o755)
        hostile = subprocess.Popen(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'python3', '-c', HOSTILE,
                                    self.mapper.registry], stdout=subprocess.PIPE, text=True)
        self.addCleanup(hostile.stdout.close)
        self.addCleanup(hostile.wait)
        self.addCleanup(hostile.kill)
        self.assertRegex(hostile.stdout.readline(), r'^[1-9]\d* watches, 0 changes$')
        for number in range(60):
            self.change(number)
        self.check_nothing_is_missed()


HOSTILE = '''
import ctypes, os, sys
path = sys.argv[1]
libc = ctypes.CDLL(None)
watches = 0
while True:
    fd = libc.inotify_init()
    if fd < 0 or libc.inotify_add_watch(fd, path.encode(), 0xfff) < 0:
        break
    watches += 1
changes = 0
for change in (lambda: os.truncate(path, 0), lambda: os.open(path, os.O_RDWR), lambda: os.unlink(path),
               lambda: os.utime(path), lambda: os.chmod(path, 0o666), lambda: os.rename(path, path + '.x')):
    try:
        change()
        changes += 1
    except OSError:
        pass
print(f'{watches} watches, {changes} changes', flush=True)
fd = os.open(path, os.O_RDONLY)
while True:
    os.pread(fd, 1 << 20, 0)
'''

if __name__ == '__main__':
    unittest.main()
