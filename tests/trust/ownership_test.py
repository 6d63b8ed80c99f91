"""A registry has one mapper (INV-11), and that mapper has it whatever becomes of its path (INV-12).

Strangers, in other network namespaces or on other ports, come at every moment of a mapper's life; and files vanish at
every moment. Nothing that is registered may be lost, changed or free for others. Needs root.
"""

import contextlib
import json
import os
import signal
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

import harness
from harness.custody import CustodyCase
from harness.epmdctl import creations, status
from harness.network import in_network_of
from harness.process import command_line

NODES = 5
NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY')
# How long a mapper whose path is another's is let alone, to do what it should not: it looks once a second.
MISCHIEF_S = 2.5


class Network:
    """A network namespace with a loopback interface."""

    def __init__(self):
        self._holder = subprocess.Popen(['unshare', '-n', 'sh', '-c', 'ip link set lo up && echo up && exec sleep 3600'],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._holder.stdout.readline() != b'up\n':
            raise unittest.SkipTest('no network namespaces here: ' + self._holder.stderr.read().decode().strip())
        self.pid = self._holder.pid
        self.prefix = ['nsenter', '-t', str(self.pid), '-n', '--']

    def close(self):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()


class OwnershipCase(CustodyCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-ownership-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.registry = os.path.join(self.directory, 'registry')

    def network(self):
        network = Network()
        self.addCleanup(network.close)
        return network

    def mapper(self, has_keeper=True, **options):
        kind = harness.Kept if has_keeper else harness.Mapper
        mapper = kind(**{'registry': self.registry, 'directory': self.directory, **options})
        self.addCleanup(mapper.close)
        return mapper.start()

    def nodes(self, mapper, prefix=b'node'):
        """What is registered: nodes that listen, and whose connections stay open until the test ends."""
        connections = []
        for number in range(NODES):
            listener = socket.create_server(('127.0.0.1', 0))
            self.addCleanup(listener.close)
            connection, _ = mapper.register(b'%b%d' % (prefix, number), port=listener.getsockname()[1])
            self.addCleanup(connection.close)
            connections.append(connection)
        # Connections are stored a moment after the reply.
        time.sleep(0.3)
        return creations(mapper), connections

    def check_connected(self, connections):
        for connection in connections:
            connection.setblocking(False)
            with self.assertRaises(BlockingIOError):
                connection.recv(1)

    def check_all(self, mapper, before, connections=()):
        self.check_kept(mapper, before)
        self.check_connected(connections)
        # A name that is registered is nobody else's.
        connection, reply = mapper.alive2(next(iter(before)), port=1)
        connection.close()
        self.assertNotEqual(harness.alive2_result(reply)[0], 0, reply)

    def crash(self, mapper):
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        self.another_serves(mapper, pid)

    def another_serves(self, mapper, pid):
        harness.wait_until(lambda: self.serving(mapper) not in (None, pid),
                           lambda: f'another mapper: {mapper.log()}')

    @staticmethod
    def serving(mapper):
        """The pid of the mapper that serves, as readers see it."""
        with contextlib.suppress(AssertionError, json.JSONDecodeError, KeyError):
            found = status(mapper)
            return found['pid'] if found['running'] else None
        return None

    def upgrade(self, mapper, binary=None):
        done = mapper.upgraded(binary)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + mapper.log())

    def kill_all(self, mapper):
        if isinstance(mapper, harness.Kept):
            harness.wait_until(mapper.all_killed, 'all are killed')
        mapper.stop(signal.SIGKILL)


class StrangerTest(OwnershipCase):
    """A mapper that was handed nothing comes to a registry that is not its own."""

    def family_of(self, port):
        return {int(pid) for pid in os.listdir('/proc') if pid.isdigit() and
                {str(port).encode(), self.registry.encode()} <= set(command_line(int(pid)))}

    def stranger(self, mapper, port, prefix=()):
        """What a mapper for that port does with the same registry: it must end with a line, having touched nothing."""
        command = [*prefix, harness.EPMD, '-port', str(port), '-address', '127.0.0.1', '-registry', self.registry,
                   '-orphan_grace', '1']
        log_path = os.path.join(self.directory, 'stranger')
        with open(log_path, 'wb') as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env=harness.clean_environment())
        try:
            code = process.wait(harness.PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
            # It serves, and none of its processes may start another.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in self.family_of(port) - mapper.family():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            process.kill()
            process.wait()
        with open(log_path, encoding='utf-8') as log:
            return code, log.read()

    def stranger_elsewhere(self, mapper):
        """The same on a port that is free, unless another test was faster: then a mapper answers there, and nothing is wrong."""
        while True:
            port = harness.free_port()
            done = self.stranger(mapper, port)
            if done != (0, ''):
                return done
            with socket.create_connection((harness.HOST, port)):
                pass

    def check_refused(self, mapper, port=None, prefix=(), serving=None):
        """port: None for any that is free."""
        code, said = self.stranger(mapper, port, prefix) if port else self.stranger_elsewhere(mapper)
        self.assertEqual(code, 1, said)
        lines = said.strip('\n').split('\n')
        self.assertEqual(len(lines), 1, said)
        self.assertIn(self.registry, said)
        self.assertIn('-registry', said)
        self.assertIn(f'port {mapper.port}', said)
        if serving:
            self.assertIn(str(serving), said)

    def strangers(self, mapper, serving):
        """In another network namespace, where the port is free; and on another port."""
        self.check_refused(mapper, mapper.port, self.network().prefix, serving)
        self.check_refused(mapper, serving=serving)

    def check_with_keeper(self, act):
        mapper = self.mapper()
        before, connections = self.nodes(mapper)
        act(mapper)
        self.strangers(mapper, mapper.mapper_pid())
        self.check_all(mapper, before, connections)
        # The stranger has left nothing that is in the way.
        self.crash(mapper)
        self.check_all(mapper, before, connections)
        self.upgrade(mapper)
        self.check_all(mapper, before, connections)

    def test_beside_a_mapper_with_a_keeper(self):
        self.check_with_keeper(lambda mapper: None)

    def test_beside_an_heir(self):
        self.check_with_keeper(self.crash)

    def test_beside_a_successor(self):
        self.check_with_keeper(self.upgrade)

    def test_beside_the_heir_of_a_successor(self):
        def act(mapper):
            self.upgrade(mapper)
            self.crash(mapper)
        self.check_with_keeper(act)

    def test_beside_a_mapper_whose_keeper_was_replaced(self):
        def act(mapper):
            serving = mapper.mapper_pid()
            os.kill(mapper.pid, signal.SIGKILL)
            harness.wait_until(lambda: len(mapper.family()) == 2, 'another keeper')
            # It has been told everything when a crash is survived.
            time.sleep(0.5)
            self.assertEqual(mapper.mapper_pid(), serving)
        self.check_with_keeper(act)

    def test_beside_a_mapper_without_a_keeper(self):
        mapper = self.mapper(has_keeper=False)
        before, connections = self.nodes(mapper)
        mapper.family = lambda: {mapper.pid}
        self.strangers(mapper, mapper.pid)
        self.check_all(mapper, before, connections)

    def test_while_the_keeper_starts_the_mapper_again(self):
        """The keeper alone holds the lock then."""
        mapper = self.mapper()
        before, connections = self.nodes(mapper)
        network = self.network()
        for _ in range(3):
            pid = mapper.mapper_pid()
            os.kill(mapper.pid, signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda: not harness.process_exists(pid), 'its end')
            code, said = self.stranger(mapper, mapper.port, network.prefix)
            os.kill(mapper.pid, signal.SIGCONT)
            self.assertEqual(code, 1, said)
            self.another_serves(mapper, pid)
            self.check_all(mapper, before, connections)

    def check_after_death_of_all(self, has_keeper):
        mapper = self.mapper(has_keeper)
        before, _ = self.nodes(mapper)
        if not has_keeper:
            mapper.family = lambda: set()
        self.kill_all(mapper)
        mapper.start()
        # They are orphans now, which listen. The lock of those who died is not in the way.
        self.check_all(mapper, before)
        self.strangers(mapper, self.serving(mapper))
        self.check_all(mapper, before)

    def test_a_path_that_was_named_is_taken_when_all_have_died(self):
        """As by a container that is started again: it is another network, with the same path, and must serve."""
        mapper = self.mapper()
        before, _ = self.nodes(mapper)
        self.kill_all(mapper)
        other = self.mapper(port=harness.free_port())
        self.assertEqual(len(before), NODES)
        self.assertEqual(creations(other), {})

    def test_after_the_death_of_all(self):
        self.check_after_death_of_all(has_keeper=True)

    def test_after_the_death_of_one_without_a_keeper(self):
        self.check_after_death_of_all(has_keeper=False)

    def test_same_port_in_the_same_network(self):
        """Exit code 0 says that a mapper answers there."""
        mapper = self.mapper()
        before, connections = self.nodes(mapper)
        code, _ = self.stranger(mapper, mapper.port)
        self.assertEqual(code, 0)
        self.check_all(mapper, before, connections)

    @unittest.skipUnless(NEXT_LAYOUT, 'needs a mapper with another layout')
    def test_beside_a_migration(self):
        """A stranger does not migrate what is another's; and what was migrated is still the other's."""
        mapper = self.mapper()
        before, connections = self.nodes(mapper)
        ours, harness.EPMD = harness.EPMD, NEXT_LAYOUT
        try:
            self.strangers(mapper, mapper.mapper_pid())
        finally:
            harness.EPMD = ours
        self.check_all(mapper, before, connections)


class NamespacesTest(OwnershipCase):
    """Without options: mappers of one user in two network namespaces, which see the same files."""

    def setUp(self):
        super().setUp()
        # Its own /run, where the usual directory is made.
        self.mounts = subprocess.Popen(
            ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && echo up && exec sleep 3600'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.addCleanup(self.mounts.stdout.close)
        self.addCleanup(self.mounts.wait)
        self.addCleanup(self.mounts.kill)
        self.assertEqual(self.mounts.stdout.readline(), b'up\n')
        self.port = harness.free_port()
        self.home = []
        self.there = self.network()

    def inside(self, network, *command):
        options = ['-n'] if network else []
        target = str(network.pid) if network else str(self.mounts.pid)
        entered = ['nsenter', '-t', str(self.mounts.pid), '-m', '--']
        if network:
            entered = ['nsenter', '-t', target, *options, '--', *entered]
        return [*entered, *command]

    def start(self, network, *options):
        log = open(os.path.join(self.directory, f'log-{network.pid if network else 0}'), 'ab')
        with log:
            process = subprocess.Popen(self.inside(network, harness.EPMD, '-port', str(self.port), '-address', '127.0.0.1', *options),
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=harness.clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(self.end, process)
        self.await_service(network)
        return process

    @staticmethod
    def children(pid):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as file:
            return [int(it) for it in file.read().split()]
        return []

    def end(self, process):
        pids = [process.pid, *self.children(process.pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        process.wait()

    @contextlib.contextmanager
    def network_of(self, network):
        with in_network_of(network.pid) if network else contextlib.nullcontext():
            yield harness.Client(self.port)

    def await_service(self, network):
        def answers():
            with self.network_of(network) as client, contextlib.suppress(OSError):
                return client.request(b'n')
            return False
        harness.wait_until(answers, 'the mapper answers')

    def listed(self, network):
        """By epmdctl without options but the port."""
        done = subprocess.run(self.inside(network, harness.EPMDCTL, '--port', str(self.port), '--json', 'list'),
                              capture_output=True, text=True, env=harness.clean_environment(), check=False)
        if done.returncode != 0:
            return done.stderr
        return {node['name']: node['creation'] for node in json.loads(done.stdout)}

    def register(self, network, name):
        with self.network_of(network) as client:
            listener = socket.create_server(('127.0.0.1', 0))
            self.addCleanup(listener.close)
            connection, _ = client.register(name, port=listener.getsockname()[1])
            self.addCleanup(connection.close)
        return connection

    def check_separate(self, expected):
        for network, listed in expected.items():
            harness.wait_until(lambda n=network, it=listed: self.listed(n) == it,
                               lambda n=network, it=listed: f'{it} are listed: {self.listed(n)}')
            with self.network_of(network) as client:
                self.assertEqual({name.decode() for name, _ in client.names()}, set(listed))

    def check(self, *options):
        processes = {None: self.start(None, *options)}
        home = self.register(None, b'home')
        processes[self.there] = self.start(self.there, *options)
        away = self.register(self.there, b'away')
        time.sleep(0.3)
        expected = {network: self.listed(network) for network in processes}
        self.assertEqual(list(map(set, expected.values())), [{'home'}, {'away'}])
        self.check_separate(expected)
        if '-no_keeper' not in options:
            for process in processes.values():
                for number in (signal.SIGKILL, signal.SIGHUP, signal.SIGKILL):
                    before = self.children(process.pid)
                    os.kill(before[0] if number == signal.SIGKILL else process.pid, number)
                    harness.wait_until(lambda p=process, b=before: self.children(p.pid) and not set(self.children(p.pid)) & set(b),
                                       'another mapper')
                    for network in processes:
                        self.await_service(network)
                    self.check_separate(expected)
            self.check_connected([home, away])
        # The one that has the path of its own first: it must not take what the other has left.
        for network in (self.there, None):
            self.end(processes[network])
        for network in (self.there, None):
            self.start(network, *options)
        self.check_separate(expected)

    def test_with_keepers(self):
        self.check()

    def test_without_keepers(self):
        self.check('-no_keeper')

    def test_as_nodes_start_it(self):
        """`epmd -daemon`, side by side."""
        for network in (None, self.there):
            done = subprocess.run(self.inside(network, harness.EPMD, '-port', str(self.port), '-address', '127.0.0.1', '-daemon'),
                                  capture_output=True, env=harness.clean_environment(), timeout=30, check=False)
            self.assertEqual(done.returncode, 0, done)
            with self.network_of(network):
                for pid in harness.listeners(self.port):
                    self.addCleanup(harness.end_process, pid)
        home, away = self.register(None, b'home'), self.register(self.there, b'away')
        self.check_separate({None: self.listed(None), self.there: self.listed(self.there)})
        self.assertEqual([set(self.listed(None)), set(self.listed(self.there))], [{'home'}, {'away'}])
        self.check_connected([home, away])


class VanishedTest(OwnershipCase):
    """Files beside the path are removed, or others put in their place."""

    def remove(self, what):
        for name in {'registry': ['registry'], 'lock': ['registry.lock'], 'both': ['registry', 'registry.lock'],
                     'directory': ['registry', 'registry.lock']}[what]:
            os.unlink(os.path.join(self.folder, name))
        if what == 'directory':
            shutil.rmtree(self.folder)

    def begin(self, has_keeper=True):
        self.folder = os.path.join(self.directory, 'folder')
        os.mkdir(self.folder)
        mapper = self.mapper(has_keeper, registry=os.path.join(self.folder, 'registry'))
        return mapper, *self.nodes(mapper)

    def await_mended(self, mapper):
        def is_mended():
            with contextlib.suppress(OSError):
                return os.stat(mapper.registry).st_nlink > 0 and os.stat(mapper.registry + '.lock') and \
                    self.serving(mapper) is not None
        harness.wait_until(is_mended, lambda: f'the files are back: {mapper.log()}')

    def check(self, what, act, waits):
        mapper, before, connections = self.begin()
        self.remove(what)
        if waits:
            self.await_mended(mapper)
            self.check_all(mapper, before, connections)
            self.assertEqual(mapper.log().count('not there any more'), 1, mapper.log())
        if act == 'crash':
            pid = next(iter(mapper.family() - {mapper.pid}))
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda: not harness.process_exists(pid), 'its end')
        elif act == 'upgrade':
            if waits:
                self.upgrade(mapper)
            else:
                os.kill(mapper.pid, signal.SIGHUP)
        elif act == 'death of all':
            self.kill_all(mapper)
            mapper.start()
            connections = ()
        self.await_mended(mapper)
        self.check_all(mapper, before, connections)
        # What has been mended is as good as before.
        if act != 'death of all':
            self.crash(mapper)
            self.check_all(mapper, before, connections)
            self.upgrade(mapper)
            self.check_all(mapper, before, connections)
            self.kill_all(mapper)
            mapper.start()
            self.check_all(mapper, before)

    def test_without_a_keeper(self):
        for what in ('registry', 'lock', 'both'):
            with self.subTest(what):
                mapper, before, connections = self.begin(has_keeper=False)
                self.remove(what)
                self.await_mended(mapper)
                self.check_all(mapper, before, connections)
                self.kill_all(mapper)
                mapper.start()
                self.check_all(mapper, before)
                mapper.close()
                shutil.rmtree(self.folder)

    def test_again_and_again(self):
        mapper, before, connections = self.begin()
        for what in ('registry', 'lock', 'both') * 2:
            self.remove(what)
            self.await_mended(mapper)
        self.check_all(mapper, before, connections)
        # Nothing is left in the store.
        for pid in mapper.family():
            held = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
            self.assertEqual([it for it in held if it.endswith('(deleted)') and self.folder in it], [])

    def test_nodes_that_come_meanwhile(self):
        mapper, before, connections = self.begin()
        self.remove('both')
        connection, creation = mapper.register(b'meanwhile', port=1)
        self.addCleanup(connection.close)
        time.sleep(0.3)
        pid = next(iter(mapper.family() - {mapper.pid}))
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not harness.process_exists(pid), 'its end')
        self.await_mended(mapper)
        self.check_all(mapper, {**before, b'meanwhile': (1, creation)}, [*connections, connection])

    def test_another_living_registry_in_its_place(self):
        """Its name is not taken away from it."""
        mapper, before, connections = self.begin()
        other = self.mapper(registry=os.path.join(self.directory, 'other'))
        of_other, more = self.nodes(other, b'other')
        os.rename(other.registry, mapper.registry)
        there = os.stat(mapper.registry).st_ino
        time.sleep(MISCHIEF_S)
        self.assertEqual(os.stat(mapper.registry).st_ino, there)
        names = {name for name, _ in mapper.names()}
        self.assertEqual(names, set(before))
        self.check_connected(connections)
        # The other one has a place of its own again, and so the first gets its own.
        self.await_mended(other)
        self.check_all(other, of_other, more)
        os.unlink(mapper.registry)
        self.await_mended(mapper)
        harness.wait_until(lambda: creations(mapper) == before, 'it is back')
        self.check_all(mapper, before, connections)

    def test_something_else_in_its_place(self):
        mapper, before, connections = self.begin()
        os.unlink(mapper.registry)
        with open(mapper.registry, 'w') as file:
            file.write('something else')
        time.sleep(MISCHIEF_S)
        with open(mapper.registry) as file:
            self.assertEqual(file.read(), 'something else')
        self.assertEqual({name for name, _ in mapper.names()}, set(before))
        pid = next(iter(mapper.family() - {mapper.pid}))
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: mapper.family() - {mapper.pid, pid}, 'another mapper')
        mapper.wait_registered(b'node0')
        self.assertEqual({name for name, _ in mapper.names()}, set(before))
        self.check_connected(connections)
        os.unlink(mapper.registry)
        self.await_mended(mapper)
        self.check_all(mapper, before, connections)


def _of_vanished(what, act, waits):
    return lambda self: self.check(what, act, waits)


for _what in ('registry', 'lock', 'both', 'directory'):
    for _act in ('crash', 'upgrade', 'death of all'):
        for _waits in (True, False):
            # A directory that was named is not made again; and when all dies before it is mended, the file is gone.
            if _what == 'directory' or (_act == 'death of all' and not _waits):
                continue
            setattr(VanishedTest, f'test_{_what}_then_{"" if _waits else "at_once_"}{_act.replace(" ", "_")}',
                    _of_vanished(_what, _act, _waits))


if __name__ == '__main__':
    unittest.main()
