"""Nodes stay registered through an upgrade of the mapper, also to another layout of the registry (P3, INV-8 to INV-10)."""

import contextlib
import json
import os
import signal
import subprocess
import time
import unittest
import unittest.mock

import harness
from harness import EPMDCTL, EPMD_FAULTS, Mapper, load
from harness.custody import CustodyCase, NODES
from harness.epmdctl import creations, epmdctl, status
from harness.process import state_of

UPGRADES = harness.scaled('UPGRADES', 100)
# The mapper, with fault points, and its tool with the throw-away layout of tests/next_layout. The tool also reads the
# layout of today.
EPMD_NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY') or harness.EPMD + '_next_layout'
EPMDCTL_NEXT_LAYOUT = os.environ.get('EPMDCTL_NEXT_LAYOUT') or EPMDCTL + '_next_layout'


class UpgradeTest(CustodyCase):

    def test_upgrades_under_load(self):
        mapper = self.kept()
        nodes = self.register(mapper, NODES)
        before = creations(mapper)
        self.assertEqual(set(before), set(nodes))
        descriptors = memory = None
        with load.Load(mapper.port, nodes) as running:
            for number in range(UPGRADES):
                pid = mapper.mapper_pid()
                done = mapper.upgraded()
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr + mapper.log())
                self.assertNotEqual(mapper.mapper_pid(), pid)
                if number == 0:
                    descriptors, memory = self.measure(mapper)
        print(f'\n{UPGRADES} upgrades with {NODES} nodes: {running.distribution()}')
        self.assertEqual(running.failures, [], mapper.log())
        self.assertGreater(running.acknowledged, 0)
        self.check_kept(mapper, before)
        for number in range(load.THREADS):
            mapper.wait_gone(load.name_of(number))
        # Nothing is left: two processes, the descriptors of the first upgrade, and their memory. One that is opened when the kernel is
        # first asked for something may not have been open yet.
        harness.wait_until(lambda: len(mapper.family()) == 2, lambda: f'two processes: {mapper.family()}')
        harness.wait_until(lambda: self.measure(mapper)[0] <= descriptors + 1,
                           lambda: f'{self.measure(mapper)} descriptors after {descriptors}')
        if not harness.INSTRUMENTED:
            self.assertLess(self.measure(mapper)[1], memory * 1.5 + 4096)
        self.assertEqual(status(mapper)['last_upgrade']['number'], UPGRADES)

    def measure(self, mapper):
        def sums():
            # The one that was the mapper may be ending.
            with contextlib.suppress(FileNotFoundError):
                pids = (mapper.pid, mapper.mapper_pid())
                # The load's own connections come and go.
                return (sum(len(os.listdir(f'/proc/{pid}/fd')) for pid in pids) + 2 * load.THREADS,
                        sum(harness.resident_kib(pid) for pid in pids))
            return None
        return harness.wait_until(sums, 'both processes can be looked at')

    def test_more_connections_than_one_message_holds(self):
        mapper = self.kept()
        nodes = self.register(mapper, 300)
        before = creations(mapper)
        for _ in range(2):
            self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            self.check_kept(mapper, before)
        self.assertEqual(len(nodes), 300)

    def test_nodes_handed_over_are_counted_once(self):
        """As many nodes have room after an upgrade and after a crash as before: more than half of what the limit allows."""
        mapper = self.kept(descriptors=512)
        self.register(mapper, 300)
        before = creations(mapper)
        for number in range(2):
            self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            self.register(mapper, 5, b'upgraded%d-' % number)
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
        self.register(mapper, 5, b'restarted')
        self.check_kept(mapper, before)

    def test_connections_are_counted_once(self):
        """The gauge is of the mapper that serves, however the one before has ended."""
        mapper = self.kept(args=['-workers', '4'])

        def shows(connections):
            # epmdctl asks no mapper; a request that has just ended may still count.
            harness.wait_until(lambda: status(mapper)['connections'] == connections,
                               lambda: f"{connections} connections: {status(mapper)['connections']}")

        nodes = [mapper.register(b'node%d' % number)[0] for number in range(20)]
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 20, 'all are stored')
        shows(20)
        for number in range(6):
            pid = mapper.mapper_pid()
            if number % 2 == 0:
                self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            else:
                os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
            shows(20)
        for node in nodes:
            node.close()
        shows(0)

    def test_connections_of_workers_that_are_no_more(self):
        with harness.Mapper(args=['-workers', '4']) as mapper:
            nodes = [mapper.register(b'node%d' % number)[0] for number in range(40)]
            mapper.stop(signal.SIGKILL)
            for node in nodes:
                node.close()
            mapper._args = ['-workers', '1']
            mapper.start()
            harness.wait_until(lambda: status(mapper)['connections'] == 0, lambda: str(status(mapper)['connections']))

    def test_as_many_nodes_as_descriptors_allow(self):
        """Through upgrades and crashes, in which the same descriptors are passed on."""
        mapper = self.kept(descriptors=512)
        for number in range(512):
            connection, reply = mapper.alive2(b'node%d' % number, port=1 + number)
            self.addCleanup(connection.close)
            if harness.alive2_result(reply)[0] != 0:
                break
        before = creations(mapper)
        self.assertIn(len(before), range(350, 512))
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= len(before), 'all are stored')
        for kill in (True, False, True, False, True):
            pid = mapper.mapper_pid()
            if kill:
                os.kill(pid, signal.SIGKILL)
            else:
                self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p,
                               lambda: f'another mapper: {mapper.log()}')
            self.check_kept(mapper, before)
            self.assertEqual(status(mapper)['orphaned'], 0)
            connection, reply = mapper.alive2(b'one-more', port=1)
            connection.close()
            self.assertEqual(harness.alive2_result(reply)[0], 1)

    @unittest.skipIf(harness.LOOP == 'epoll', 'starts with a ring')
    def test_to_another_loop_and_back(self):
        """The loops want listening sockets of different kinds, and both mappers have the same ones for a moment."""
        mapper = self.kept(args=['-workers', '2'])
        nodes = self.register(mapper, 20)
        before = creations(mapper)
        with load.Load(mapper.port, nodes) as running:
            for loop in ('epoll', 'io_uring') * 3:
                other = self.copy_of(mapper.directory, f'#!/bin/sh\nexec "{harness.EPMD}" "$@" -loop {loop}\n')
                done = mapper.upgraded(other)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr + mapper.log())
                self.assertEqual(status(mapper)['loop'], loop)
            # And one that does not come to serve leaves the sockets as it wants them.
            done = mapper.upgraded(self.copy_of(
                mapper.directory, f'#!/bin/sh\nulimit -n 50\nexec "{harness.EPMD}" "$@" -loop epoll\n'))
            self.assertEqual(done.returncode, 1, done)
        self.assertEqual(running.failures, [])
        self.check_kept(mapper, before)

    def test_broken_programs_are_rolled_back(self):
        mapper = self.kept()
        nodes = self.register(mapper, 50)
        before = creations(mapper)
        pid = mapper.mapper_pid()
        programs = {
            'exits': ('#!/bin/sh\nexit 3\n', 0o755, 'exit code 3'),
            'crashes': ('#!/bin/sh\nkill -SEGV $$\n', 0o755, 'SEGV'),
            'is not executable': ('#!/bin/sh\nexit 0\n', 0o644, 'executed'),
            'is no program': ('garbage', 0o755, 'Exec format error'),
            'cannot be interpreted': ('#!/nonexistent/interpreter\n', 0o755, 'No such file'),
        }
        with load.Load(mapper.port, nodes) as running:
            for what, (content, mode, reason) in programs.items():
                with self.subTest(program=what):
                    done = mapper.upgraded(self.copy_of(mapper.directory, content, mode))
                    self.assertEqual(done.returncode, 1, done)
                    self.assertIn(reason, done.stdout + done.stderr)
                    self.assertEqual(mapper.mapper_pid(), pid)
            self.check_kept(mapper, before)
        self.assertEqual(running.failures, [])
        self.assertEqual(status(mapper)['last_upgrade']['outcome'], 'failed')
        # And a good one goes through after all of them.
        self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
        self.check_kept(mapper, before)

    def test_program_that_hangs(self):
        mapper = self.kept()
        nodes = self.register(mapper, 10)
        before = creations(mapper)
        pid = mapper.mapper_pid()
        with load.Load(mapper.port, nodes) as running:
            done = mapper.upgraded(self.copy_of(mapper.directory, '#!/bin/sh\nexec sleep 1000\n'))
            self.assertEqual(done.returncode, 1, done)
            self.assertIn('not ready within', done.stdout + done.stderr)
        self.assertEqual(running.failures, [])
        self.assertEqual(mapper.mapper_pid(), pid)
        self.check_kept(mapper, before)

    def test_one_upgrade_at_a_time(self):
        mapper = self.kept()
        self.register(mapper, 10)
        before = creations(mapper)
        slow = self.copy_of(mapper.directory, f'#!/bin/sh\nsleep 1\nexec "{harness.EPMD}" "$@"\n')
        first = subprocess.Popen([EPMDCTL, '--registry', mapper.registry, 'upgrade', slow], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        harness.wait_until(lambda: 'upgrade: starts' in mapper.log(), 'the upgrade begins')
        os.kill(mapper.mapper_pid(), signal.SIGHUP)
        harness.wait_until(lambda: 'under way already' in mapper.log(), 'the second is refused')
        self.assertEqual(first.wait(harness.PATIENCE_S), 0, first.stdout.read())
        first.stdout.close()
        self.check_kept(mapper, before)

    def test_keeper_is_replaced_with_its_program(self):
        mapper = self.kept()
        nodes = self.register(mapper, 100)
        before = creations(mapper)
        keeper = mapper.pid
        new = self.copy_of(mapper.directory)
        with load.Load(mapper.port, nodes) as running:
            self.assertEqual(mapper.upgraded(new).returncode, 0, mapper.log())
            for pid in (keeper, mapper.mapper_pid()):
                harness.wait_until(lambda p=pid: os.readlink(f'/proc/{p}/exe') == new, 'the new program runs')
            self.check_kept(mapper, before)
        self.assertEqual(running.failures, [])
        # The new keeper keeps.
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: mapper.mapper_pid() != pid, 'another mapper')
        self.check_kept(mapper, before)
        self.assertEqual(os.readlink(f'/proc/{mapper.mapper_pid()}/exe'), new)

    def test_program_that_is_not_believed(self):
        """A file that others may write, that is no file, or names no whole path: the upgrade is to the own program."""
        mapper = self.kept()
        self.register(mapper, 5)
        before = creations(mapper)
        own = os.readlink(f'/proc/{mapper.mapper_pid()}/exe')
        request = mapper.registry + '.upgrade'
        broken = self.copy_of(mapper.directory, '#!/bin/sh\nexit 3\n')

        def write(text, mode=0o644):
            with open(request, 'w') as file:
                file.write(text)
            os.chmod(request, mode)
        ways = [lambda: write(broken, 0o666), lambda: write(broken, 0o620), lambda: write(''), lambda: write('epmd-new\n'),
                lambda: os.mkfifo(request), lambda: os.symlink(broken, request)]
        if os.geteuid() == 0:
            ways.append(lambda: write(broken) or os.chown(request, 64101, 64101))
        for number, way in enumerate(ways):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(request)
            with self.subTest(number=number):
                way()
                pid = mapper.mapper_pid()
                os.kill(pid, signal.SIGHUP)
                harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p,
                                   lambda: f'another mapper: {mapper.log()}')
                self.assertEqual(os.readlink(f'/proc/{mapper.mapper_pid()}/exe'), own)
                self.check_kept(mapper, before)
        self.assertIn('not believed', mapper.log())

    def test_program_that_cannot_take_over(self):
        """It may have fewer descriptors than there are nodes: it says so, and the mapper serves on."""
        mapper = self.kept()
        self.register(mapper, 100)
        before = creations(mapper)
        pid = mapper.mapper_pid()
        few = self.copy_of(mapper.directory, f'#!/bin/sh\nulimit -n 64\nexec "{harness.EPMD}" "$@"\n')
        done = mapper.upgraded(few)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('the limit of 64 open files', done.stdout + done.stderr)
        self.assertEqual(mapper.mapper_pid(), pid)
        self.check_kept(mapper, before)
        self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
        self.check_kept(mapper, before)

    def test_end_while_an_upgrade_is_under_way(self):
        mapper = self.kept()
        self.register(mapper, 5)
        mapper.ask_for(self.copy_of(mapper.directory, '#!/bin/sh\nexec sleep 1000\n'), mapper.mapper_pid())
        harness.wait_until(lambda: 'upgrade: starts' in mapper.log(), 'the upgrade begins')
        os.kill(mapper.pid, signal.SIGTERM)
        self.assertEqual(mapper.wait(), 0)
        self.assertIn('was told to end', mapper.log())
        self.assertEqual(mapper.family(), set())

    def test_without_a_store_there_is_no_upgrade(self):
        mapper = Mapper()
        self.addCleanup(mapper.close)
        mapper.start()
        node, _ = mapper.register(b'node')
        self.addCleanup(node.close)
        done = epmdctl(mapper, 'upgrade')
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('keeper', done.stdout + done.stderr)
        self.assertIsNotNone(mapper.lookup(b'node'))

    def test_half_requests_are_answered_by_who_accepted_them(self):
        mapper = self.kept()
        self.register(mapper, 5)
        with mapper.connect() as half:
            request = harness.frame(b'znode3')
            half.sendall(request[:4])
            time.sleep(0.1)
            upgrade = subprocess.Popen([EPMDCTL, '--registry', mapper.registry, 'upgrade'], stdout=subprocess.DEVNULL)
            time.sleep(0.15)
            half.sendall(request[4:])
            self.assertEqual(harness.receive_all(half)[:2], b'w\x00')
            self.assertEqual(upgrade.wait(harness.PATIENCE_S), 0)


@unittest.skipUnless(os.path.exists(EPMD_NEXT_LAYOUT), 'no variant with another layout in this build')
class MigrationTest(CustodyCase):

    def setUp(self):
        reads_both = unittest.mock.patch('harness.epmdctl.EPMDCTL', EPMDCTL_NEXT_LAYOUT)
        reads_both.start()
        self.addCleanup(reads_both.stop)

    def test_upgrade_to_another_layout(self):
        mapper = self.kept()
        nodes = self.register(mapper, 200)
        long_name = 'ü'.encode() * 250  # of 255 there is no lookup, as with the stock epmd
        connection, _ = mapper.register(long_name, port=77, extra=b'e' * 1000)
        self.addCleanup(connection.close)
        gone, creation = mapper.register(b'gone')
        gone.close()
        mapper.wait_gone(b'gone')
        names_before = sorted(mapper.names())
        with load.Load(mapper.port, nodes) as running:
            os.kill(mapper.pid, signal.SIGHUP)  # the same program and layout
            harness.wait_until(lambda: 'runs' in mapper.log(), 'the first upgrade')
            mapper.ask_for(EPMD_NEXT_LAYOUT)
            harness.wait_until(lambda: mapper.log().count(' runs ') == 2, lambda: f'the migration: {mapper.log()}')
        self.assertEqual(running.failures, [])
        for number in range(load.THREADS):
            mapper.wait_gone(load.name_of(number))
        self.assertEqual(sorted(mapper.names()), names_before)
        found = mapper.lookup(long_name)
        self.assertEqual((found.port, found.extra), (77, b'e' * 1000))
        connection, again = mapper.register(b'gone')
        self.assertEqual(again, creation + 1)
        connection.close()
        before = creations(mapper)
        harness.wait_until(lambda: not os.path.exists(mapper.registry + '.previous'), 'the old file is removed')
        # And back is refused, and harms nothing.
        done = mapper.upgraded(harness.EPMD)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('newer version', done.stdout + done.stderr)
        mapper.wait_gone(b'gone')
        before.pop(b'gone', None)
        self.check_kept(mapper, before)
        self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())  # to itself
        self.check_kept(mapper, before)

    def test_failed_migrations_are_rolled_back(self):
        for point in ('successor:prepared', 'successor:yours', 'successor:commit'):
            with self.subTest(point=point):
                mapper = self.kept()
                nodes = self.register(mapper, 50)
                before = dict(mapper.names())
                pids = mapper.family()
                faulty = self.copy_of(mapper.directory,
                                      f'#!/bin/sh\nEPMD_FAULTS={point}=kill exec "{EPMD_NEXT_LAYOUT}" "$@"\n')
                with load.Load(mapper.port, nodes) as running:
                    mapper.ask_for(faulty)
                    harness.wait_until(lambda: 'upgrade failed' in mapper.log(), lambda: f'it fails: {mapper.log()}')
                    # What registers now is not lost either.
                    late, _ = mapper.register(b'late', port=5)
                self.assertEqual(running.failures, [])
                self.assertEqual(mapper.family(), pids)
                for number in range(load.THREADS):
                    mapper.wait_gone(load.name_of(number))
                before[b'late'] = 5
                self.assertEqual(dict(mapper.names()), before)
                # The registry is the old one again, also for a mapper that starts from it.
                mapper.ask_for(EPMD_NEXT_LAYOUT)
                harness.wait_until(lambda: ' runs ' in mapper.log(), lambda: f'it succeeds: {mapper.log()}')
                self.assertEqual(dict(mapper.names()), before)
                late.close()
                mapper.close()

    def test_who_is_killed_in_a_migration(self):
        """Predecessor, successor or both at each step: the keeper's next mapper, of whatever program, has everything."""
        for point in ('successor:yours', 'successor:migrated', 'successor:commit', 'successor:committed', 'successor:told',
                      'successor:serving'):
            for victims in ('old', 'new', 'both'):
                with self.subTest(point=point, victims=victims):
                    mapper = self.kept()
                    self.register(mapper, 50)
                    before = dict(mapper.names())
                    old = mapper.mapper_pid()
                    faulty = self.copy_of(mapper.directory,
                                          f'#!/bin/sh\nEPMD_FAULTS={point}=stop exec "{EPMD_NEXT_LAYOUT}" "$@"\n')
                    mapper.ask_for(faulty)
                    new = harness.wait_until(lambda m=mapper: [pid for pid in m.family() if state_of(pid) == 'T'],
                                             lambda m=mapper: f'it stops: {m.log()}')[0]
                    for pid in {'old': [old], 'new': [new], 'both': [old, new]}[victims]:
                        os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(new, signal.SIGCONT)

                    def is_well(m=mapper, expected=before):
                        for pid in m.family():
                            if state_of(pid) == 'T':
                                os.kill(pid, signal.SIGCONT)
                        with contextlib.suppress(OSError, AssertionError, ValueError):
                            current = status(m)
                            states = {node['state'] for node in json.loads(epmdctl(m, '--json', 'list').stdout)}
                            return (len(m.family()) == 2 and current['running'] and states == {'live'} and
                                    dict(m.names()) == expected)
                        return False
                    harness.wait_until(is_well, lambda m=mapper: f'{m.family()} {status(m)} {m.log()}', 60)
                    # Nothing is left of what was begun, also for the one after.
                    sound = self.copy_of(mapper.directory, f'#!/bin/sh\nunset EPMD_FAULTS\nexec "{EPMD_NEXT_LAYOUT}" "$@"\n')
                    self.assertEqual(mapper.upgraded(sound).returncode, 0, mapper.log())
                    self.assertEqual(dict(mapper.names()), before)
                    harness.wait_until(lambda m=mapper: not os.path.exists(m.registry + '.previous'), 'the old file is removed')
                    mapper.close()


if __name__ == '__main__':
    unittest.main()
