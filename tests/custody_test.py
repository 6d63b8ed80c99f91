"""Nodes stay registered through restart, crash and upgrade of the mapper (P2, P3, INV-8 to INV-10)."""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness
import load
from harness import Mapper

UPGRADES = harness.scaled('UPGRADES', 100)
KILLS = harness.scaled('KILLS', 100)
NODES = harness.scaled('CUSTODY_NODES', 1000)
ACCEPTS_PER_EVENT = 32  # of a worker: kEventsMax in daemon/ready_set.h
EPMDCTL = os.environ.get('EPMDCTL') or os.path.join(os.path.dirname(harness.EPMD), '..', 'tools', 'epmdctl')
EPMD_FAULTS = os.environ.get('EPMD_FAULTS_BINARY') or harness.EPMD + '_faults'
EPMD_LAYOUT1 = os.environ.get('EPMD_LAYOUT1_BINARY') or harness.EPMD + '_layout1'


def epmdctl(mapper, *args, timeout_s=90):
    return subprocess.run([EPMDCTL, '--registry', mapper.registry, *args], capture_output=True, text=True, check=False,
                          timeout=timeout_s, stdin=subprocess.DEVNULL)


def status(mapper):
    return json.loads(epmdctl(mapper, '--json', 'status').stdout)


def creations(mapper):
    """{name: (port, creation)} of all that is registered, from shared memory."""
    listed = json.loads(epmdctl(mapper, '--json', 'list').stdout)
    return {node['name'].encode(): (node['port'], node['creation']) for node in listed}


def state_of(pid):
    """The letter of a process, as in ps(1); nothing when it is gone."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0]
    return ''


def command_line(pid):
    """Of a process that runs one of our programs, epmdctl apart: its arguments; else nothing."""
    with contextlib.suppress(OSError):
        while True:
            program = os.path.basename(os.readlink(f'/proc/{pid}/exe'))
            if 'epmd' not in program or 'epmdctl' in program:
                break
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                arguments = file.read().split(b'\0')
            # Between execve(2) and its end there are none.
            if arguments != [b''] or not harness.process_exists(pid):
                return arguments
    return []


class Kept(Mapper):
    """A mapper with a keeper. .pid is the keeper's; the mapper's is mapper_pid()."""

    def __init__(self, binary=None, **options):
        super().__init__(keeper=True, **options)
        if binary is not None:
            self.binary = binary

    def mapper_pid(self):
        return status(self)['pid']

    def family(self):
        """All processes that run one of our programs with this mapper's registry."""
        return {int(entry) for entry in os.listdir('/proc') if entry.isdigit() and
                self.registry.encode() in command_line(int(entry)) and harness.process_exists(int(entry))}

    def all_killed(self):
        # Who sees another die first starts it again.
        family = self.family()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The last one may have started another while it was looked at the others.
        return not family and not self.family()

    def ask_for(self, program, pid=None):
        """Asks the keeper, or another process, for an upgrade to a program, and does not wait for it."""
        with open(self.registry + '.upgrade', 'w') as file:
            file.write(program)
        os.kill(pid or self.pid, signal.SIGHUP)

    def upgraded(self, binary=None):
        """Upgrades and returns epmdctl's CompletedProcess."""
        return epmdctl(self, 'upgrade', *([binary] if binary else []))

    def close(self):
        # Whatever became of the keeper, nothing is left behind.
        try:
            super().close()
        finally:
            harness.wait_until(self.all_killed, 'all are killed')


class CustodyCase(unittest.TestCase):

    def kept(self, **options):
        mapper = Kept(**options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def register(self, mapper, count, prefix=b'node'):
        """{name: port} of nodes that stay registered until the test ends."""
        nodes = {}
        for number in range(count):
            name = b'%b%d' % (prefix, number)
            connection, _ = mapper.register(name, port=10000 + number % 50000)
            self.addCleanup(connection.close)
            nodes[name] = 10000 + number % 50000
        return nodes

    def check_kept(self, mapper, before):
        """All that was registered is, with the same creation, and found over the wire."""
        after = creations(mapper)
        self.assertEqual({name: after.get(name) for name in before}, before)
        names = dict(mapper.names())
        for name, (port, _) in before.items():
            self.assertEqual(names.get(name), port, name)

    def copy_of(self, directory, content=None, mode=0o755, source=None):
        path = os.path.join(directory, 'epmd-new')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if content is None:
            shutil.copy(source or harness.EPMD, path)
        else:
            with open(path, 'w') as file:
                file.write(content)
        os.chmod(path, mode)
        return path


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
        self.assertEqual(running.failures, [])
        self.assertGreater(running.acknowledged, 0)
        self.check_kept(mapper, before)
        for number in range(load.THREADS):
            mapper.wait_gone(load.name_of(number))
        # Nothing is left: two processes, the descriptors of the first upgrade, and their memory.
        harness.wait_until(lambda: len(mapper.family()) == 2, lambda: f'two processes: {mapper.family()}')
        harness.wait_until(lambda: self.measure(mapper)[0] <= descriptors,
                           lambda: f'{self.measure(mapper)} descriptors after {descriptors}')
        if not harness.INSTRUMENTED:
            self.assertLess(self.measure(mapper)[1], memory * 1.5 + 4096)
        self.assertEqual(status(mapper)['last_upgrade']['number'], UPGRADES)

    def measure(self, mapper):
        # The load's own connections come and go.
        pids = (mapper.pid, mapper.mapper_pid())
        return (sum(len(os.listdir(f'/proc/{pid}/fd')) for pid in pids) + 2 * load.THREADS,
                sum(harness.resident_kib(pid) for pid in pids))

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


class Listening:
    """A node that listens, on a raw socket: what is known of it is its listening socket."""

    def __init__(self, mapper, name, port=0):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(('127.0.0.1', port))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self.connection, self.creation = mapper.register(name, port=self.port)

    def stop_listening(self):
        self._socket.close()

    def close(self):
        self._socket.close()
        self.connection.close()


class CrashTest(CustodyCase):

    def test_kills_under_load(self):
        """kill -9 at random moments: every acknowledged registration survives, with its creation."""
        mapper = self.kept()
        nodes = self.register(mapper, NODES)
        before = creations(mapper)
        choice = random.Random(1)
        with load.Load(mapper.port, nodes, tolerate_resets=True) as running:
            for number in range(KILLS):
                pid = mapper.mapper_pid()
                # What was acknowledged a moment before the kill counts as well.
                name = b'fresh%d' % number
                node = Listening(mapper, name)
                self.addCleanup(node.close)
                time.sleep(choice.random() * 0.02)
                os.kill(pid, signal.SIGKILL)
                harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
                before[name] = (node.port, node.creation)
        print(f'\n{KILLS} kills with {NODES} nodes: {running.distribution()}')
        self.assertEqual([failure for failure in running.failures if 'lookup' in failure], [])
        self.check_kept(mapper, before)
        self.assertEqual(len(mapper.family()), 2)
        # All are watched: who leaves is gone. Those that were lost with a mapper before they were stored are orphans.
        states = {node['name']: node['state'] for node in json.loads(epmdctl(mapper, '--json', 'list').stdout)}
        self.assertEqual([name for name in nodes if states[name.decode()] != 'live'], [])

    def test_service_is_back_while_lookups_wait(self):
        """What waits in the queue of the listening socket when a mapper is killed is served by the next, or closed (INV-8)."""
        mapper = self.kept(args=['-workers', '2'])
        nodes = self.register(mapper, 20)
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGSTOP)
        waiting = []
        for name in list(nodes) * 5:
            connection = mapper.connect()
            connection.sendall(harness.frame(b'z' + name))
            waiting.append(connection)
        os.kill(pid, signal.SIGKILL)
        replies = [harness.receive_all(connection)[:2] for connection in waiting]
        for connection in waiting:
            connection.close()
        # None waits for ever. A ring that is being taken apart with its process may accept all that waits, and then they are
        # closed with it; an epoll loop that is stopped accepts nothing.
        if harness.LOOP == 'epoll':
            self.assertGreaterEqual(replies.count(b'w\x00'), len(waiting) - 2 * ACCEPTS_PER_EVENT)
        for name, port in nodes.items():
            self.assertEqual(mapper.lookup(name).port, port)

    def test_nobody_can_gain_privileges(self):
        """Mapper and keeper, also those that come after, execute nothing with more rights than they have."""
        mapper = self.kept()
        for change in (lambda: None, lambda: self.assertEqual(mapper.upgraded().returncode, 0),
                       lambda: os.kill(mapper.mapper_pid(), signal.SIGKILL)):
            change()
            harness.wait_until(lambda: len(mapper.family()) == 2 and status(mapper)['running'], 'mapper and keeper')
            for pid in mapper.family():
                # One that has only just been started may not be that far.
                harness.wait_until(lambda p=pid: self.has_given_up_privileges(p), 'no_new_privs')

    def has_given_up_privileges(self, pid):
        with open(f'/proc/{pid}/status') as file:
            return 'NoNewPrivs:\t1\n' in file.read()

    def test_keeper_dies(self):
        """The mapper starts another keeper, which then keeps."""
        mapper = self.kept()
        self.register(mapper, 100)
        before = creations(mapper)
        pid = mapper.mapper_pid()
        keeper = mapper.pid
        os.kill(keeper, signal.SIGKILL)
        mapper.wait()
        harness.wait_until(lambda: len(mapper.family() - {keeper}) == 2, 'another keeper')
        self.assertEqual(mapper.mapper_pid(), pid)
        new_keeper, = mapper.family() - {pid}
        harness.wait_until(lambda: len(os.listdir(f'/proc/{new_keeper}/fd')) > 100, 'it holds the connections')
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
        self.check_kept(mapper, before)
        os.kill(new_keeper, signal.SIGTERM)
        harness.wait_until(lambda: not mapper.family(), 'all ended')

    def without_registry(self, mapper):
        """Kills the mapper, and the next ones cannot start: there is a directory in the place of the registry."""
        pid = mapper.mapper_pid()
        os.kill(mapper.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        os.rename(mapper.registry, mapper.registry + '.kept')
        os.mkdir(mapper.registry)
        os.kill(mapper.pid, signal.SIGCONT)
        harness.wait_until(lambda: mapper.log().count('is not a regular file') >= 2, lambda: f'it tries twice: {mapper.log()}')

    def test_mapper_that_cannot_start_again_is_tried_until_it_can(self):
        mapper = self.kept()
        self.register(mapper, 20)
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 20, 'all are stored')
        self.without_registry(mapper)
        os.rmdir(mapper.registry)
        os.rename(mapper.registry + '.kept', mapper.registry)
        harness.wait_until(mapper._answers, lambda: f'it serves again: {mapper.log()}')
        self.check_kept(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)

    def test_keeper_ends_when_asked_to_while_no_mapper_can_start(self):
        mapper = self.kept()
        self.register(mapper, 1)
        self.without_registry(mapper)
        os.kill(mapper.pid, signal.SIGTERM)
        mapper.wait()
        self.assertEqual(mapper.family(), set())
        self.assertEqual(harness.listeners(mapper.port), set())

    @unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
    def test_mapper_that_does_not_end_is_killed(self):
        mapper = self.kept()
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGSTOP)
        os.kill(mapper.pid, signal.SIGTERM)
        self.assertEqual(mapper.wait(60), 1)
        self.assertIn('does not end', mapper.log())
        self.assertEqual(mapper.family(), set())

    def test_nodes_that_leave_while_no_mapper_runs(self):
        mapper = self.kept()
        staying, _ = mapper.register(b'staying')
        leaving, _ = mapper.register(b'leaving')
        resetting, _ = mapper.register(b'resetting')
        self.addCleanup(staying.close)
        time.sleep(0.05)
        pid = mapper.mapper_pid()
        os.kill(mapper.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        leaving.close()
        harness.reset(resetting)
        os.kill(mapper.pid, signal.SIGCONT)
        harness.wait_until(lambda: mapper.mapper_pid() != pid, 'another mapper')
        mapper.wait_gone(b'leaving')
        # A connection that was reset hangs up in the keeper, too: its node is not one that listens.
        self.assertIsNotNone(mapper.lookup(b'staying'))

    def test_keeper_lets_go_of_nodes_that_left(self):
        mapper = self.kept()
        before = None
        for _ in range(20):
            nodes = [mapper.register(b'n%d' % number)[0] for number in range(20)]
            for node in nodes:
                node.close()
            for number in range(20):
                mapper.wait_gone(b'n%d' % number)
            if before is None:
                time.sleep(0.2)
                before = len(os.listdir(f'/proc/{mapper.pid}/fd'))
        harness.wait_until(lambda: len(os.listdir(f'/proc/{mapper.pid}/fd')) <= before, 'the keeper holds no more')

    def test_ends_when_asked_to(self):
        for end in (lambda mapper: os.kill(mapper.pid, signal.SIGTERM), lambda mapper: os.kill(mapper.pid, signal.SIGINT),
                    lambda mapper: os.kill(mapper.mapper_pid(), signal.SIGTERM), lambda mapper: mapper.kill()):
            mapper = self.kept()
            end(mapper)
            self.assertEqual(mapper.wait(), 0)
            self.assertEqual(mapper.family(), set())
            self.assertEqual(harness.listeners(mapper.port), set())

    def test_mapper_that_cannot_start_ends_the_keeper(self):
        mapper = Kept()
        self.addCleanup(mapper.close)
        done = subprocess.run([*mapper.command(), '-registry', '/nonexistent/registry'], capture_output=True, check=False,
                              env=harness.clean_environment(), timeout=harness.PATIENCE_S)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('/nonexistent', harness.one_line(done))
        self.assertEqual(mapper.family(), set())

    def test_many_connections(self):
        """More than 8,192, through upgrade and crash."""
        count = min(9000, harness.raise_descriptor_limit() - 500)
        if harness.INSTRUMENTED:
            count = 1000
        mapper = self.kept()
        nodes = self.register(mapper, count)
        before = creations(mapper)
        self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
        self.check_kept(mapper, before)
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
        self.check_kept(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)
        self.assertEqual(len(nodes), count)


class OrphanTest(CustodyCase):

    def orphaned(self, mapper):
        return {node['name'].encode() for node in json.loads(epmdctl(mapper, '--json', 'list').stdout)
                if node['state'] == 'orphaned'}

    def restart_with_all_lost(self, mapper, nodes=()):
        """Keeper and mapper die by SIGKILL; then a mapper is started by hand."""
        pids = mapper.family()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not mapper.family(), 'all are dead')
        mapper.stop()
        mapper.start()

    def known_listener(self, mapper):
        # The listening socket is found out after the reply: see Mapper::StoreNew().
        harness.wait_until(lambda: status(mapper)['counters']['stored'] > 0, 'the connection is stored')
        time.sleep(0.05)

    def test_node_that_never_comes_back_is_found_while_it_listens(self):
        mapper = self.kept(args=['-orphan_grace', '1'])
        node = Listening(mapper, b'old')
        self.addCleanup(node.close)
        self.known_listener(mapper)
        before = creations(mapper)
        self.restart_with_all_lost(mapper)
        self.assertEqual(self.orphaned(mapper), {b'old'})
        self.assertIn(b'orphaned name   <old> at port %d\n' % node.port, mapper.dump())
        time.sleep(1.5)  # longer than the grace time, which is not for those that can be judged
        self.check_kept(mapper, before)
        node.stop_listening()
        mapper.wait_gone(b'old')

    def test_mapper_killed_before_it_has_found_where_a_node_listens(self):
        """The next one finds it, and knows that the node lives, although that does not come back."""
        mapper = self.kept(args=['-orphan_grace', '1'])
        before = {}
        for number in range(10):
            pid = mapper.mapper_pid()
            name = b'lives%d' % number
            node = Listening(mapper, name)
            os.kill(pid, signal.SIGKILL)
            self.addCleanup(node.close)
            harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
            before[name] = (node.port, node.creation)
        time.sleep(3)  # the grace time, and more
        self.check_kept(mapper, before)

    def test_node_of_which_nothing_is_known_has_a_grace_time(self):
        mapper = self.kept(args=['-orphan_grace', '1'])
        connection, _ = mapper.register(b'mute', port=9)
        self.addCleanup(connection.close)
        self.restart_with_all_lost(mapper)
        self.assertIsNotNone(mapper.lookup(b'mute'))
        mapper.wait_gone(b'mute')

    def test_node_that_comes_back_adopts_its_registration(self):
        mapper = self.kept()
        node = Listening(mapper, b'node')
        self.addCleanup(node.close)
        self.known_listener(mapper)
        before = creations(mapper)
        self.restart_with_all_lost(mapper)
        connection, creation = mapper.register(b'node', port=node.port)
        self.addCleanup(connection.close)
        self.assertEqual(creation, node.creation)
        self.assertEqual(self.orphaned(mapper), set())
        self.check_kept(mapper, before)
        # The new connection is the one that counts.
        connection.close()
        mapper.wait_gone(b'node')

    def test_another_node_waits_until_the_orphan_is_gone(self):
        mapper = self.kept()
        node = Listening(mapper, b'node')
        self.addCleanup(node.close)
        self.known_listener(mapper)
        self.restart_with_all_lost(mapper)
        for _ in range(3):
            connection, reply = mapper.alive2(b'node', port=node.port + 1)
            connection.close()
            self.assertEqual(harness.alive2_result(reply), (1, harness.REFUSED_CREATION))
        node.stop_listening()
        connection, creation = mapper.register(b'node', port=node.port + 1)
        self.addCleanup(connection.close)
        self.assertNotEqual(creation, node.creation)
        self.assertEqual(mapper.lookup(b'node').port, node.port + 1)

    def test_node_restarted_on_a_fixed_port_is_another_one(self):
        mapper = self.kept()
        node = Listening(mapper, b'rabbit')
        self.known_listener(mapper)
        self.restart_with_all_lost(mapper)
        node.close()
        again = Listening(mapper, b'rabbit', node.port)
        self.addCleanup(again.close)
        self.assertNotEqual(again.creation, node.creation)

    @harness.have_erlang
    def test_erlang_nodes_adopt_their_registrations(self):
        mapper = self.kept()
        one, two = (harness.ErlangNode(name + '@localhost', mapper.port, mapper.directory) for name in ('one', 'two'))
        self.addCleanup(one.close)
        self.addCleanup(two.close)
        for name in (b'one', b'two'):
            mapper.wait_registered(name)
        self.assertEqual(one.evaluate("net_adm:ping('two@localhost')"), 'pong')
        harness.wait_until(lambda: len(creations(mapper)) == 2, 'both are registered')
        time.sleep(0.1)
        before = creations(mapper)
        self.restart_with_all_lost(mapper)
        self.check_kept(mapper, before)
        # OTP 24 and later come back by themselves.
        harness.wait_until(lambda: not self.orphaned(mapper), 'both have come back')
        self.check_kept(mapper, before)
        self.assertEqual(one.evaluate('nodes()'), "[two@localhost]")
        two.kill()
        mapper.wait_gone(b'two')


@unittest.skipUnless(os.path.exists(EPMD_LAYOUT1), 'no variant with the layout before in this build')
class MigrationTest(CustodyCase):

    def test_upgrade_to_another_layout(self):
        mapper = self.kept(binary=EPMD_LAYOUT1)
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
            mapper.ask_for(harness.EPMD)
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
        done = mapper.upgraded(EPMD_LAYOUT1)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('newer version', done.stdout + done.stderr)
        mapper.wait_gone(b'gone')
        before.pop(b'gone', None)
        self.check_kept(mapper, before)
        self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
        self.check_kept(mapper, before)

    def test_failed_migrations_are_rolled_back(self):
        for point in ('successor:prepared', 'successor:yours', 'successor:commit'):
            with self.subTest(point=point):
                mapper = self.kept(binary=EPMD_LAYOUT1)
                nodes = self.register(mapper, 50)
                before = dict(mapper.names())
                pids = mapper.family()
                faulty = self.copy_of(mapper.directory,
                                      f'#!/bin/sh\nEPMD_FAULTS={point}=kill exec "{EPMD_FAULTS}" "$@"\n')
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
                mapper.ask_for(harness.EPMD)
                harness.wait_until(lambda: ' runs ' in mapper.log(), lambda: f'it succeeds: {mapper.log()}')
                self.assertEqual(dict(mapper.names()), before)
                late.close()
                mapper.close()

    @unittest.skipUnless(os.path.exists(EPMD_FAULTS), 'no variant with fault points in this build')
    def test_who_is_killed_in_a_migration(self):
        """Predecessor, successor or both at each step: the keeper's next mapper, of whatever program, has everything."""
        for point in ('successor:yours', 'successor:migrated', 'successor:commit', 'successor:committed', 'successor:told',
                      'successor:serving'):
            for victims in ('old', 'new', 'both'):
                with self.subTest(point=point, victims=victims):
                    mapper = self.kept(binary=EPMD_LAYOUT1)
                    self.register(mapper, 50)
                    before = dict(mapper.names())
                    old = mapper.mapper_pid()
                    faulty = self.copy_of(mapper.directory,
                                          f'#!/bin/sh\nEPMD_FAULTS={point}=stop exec "{EPMD_FAULTS}" "$@"\n')
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
                    self.assertEqual(mapper.upgraded(harness.EPMD).returncode, 0, mapper.log())
                    self.assertEqual(dict(mapper.names()), before)
                    harness.wait_until(lambda m=mapper: not os.path.exists(m.registry + '.previous'), 'the old file is removed')
                    mapper.close()


@unittest.skipUnless(os.path.exists(EPMD_FAULTS), 'no variant with fault points in this build')
class FaultTest(CustodyCase):
    """Kills the predecessor, the successor or the keeper at each step of an upgrade, one after the other."""

    POINTS = ('predecessor:started', 'predecessor:prepared', 'predecessor:bulk', 'predecessor:paused',
              'predecessor:yours', 'predecessor:committed', 'successor:prepared', 'successor:yours',
              'successor:commit', 'successor:committed', 'successor:serving', 'keeper:mainpid', 'keeper:outdated',
              'keeper:resumed')

    def processes(self, mapper):
        """{pid: state letter}"""
        states = {pid: state_of(pid) for pid in mapper.family()}
        return {pid: state for pid, state in states.items() if state}

    def upgrade_until(self, point):
        """A mapper in the middle of an upgrade: (mapper, creations, the pid that stopped at the point)."""
        mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': f'{point}=stop'})
        self.addCleanup(mapper.close)
        mapper.start()
        self.register(mapper, 20)
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 20, 'all are stored')
        keeper, old = mapper.pid, mapper.mapper_pid()
        if point == 'keeper:mainpid':
            # It is told of the first mapper, too, which would be killed before it has begun the upgrade.
            harness.wait_until(lambda: state_of(keeper) == 'T', lambda: f'the keeper is told of the first: {mapper.log()}')
            os.kill(keeper, signal.SIGCONT)
        binary = self.copy_of(mapper.directory, source=EPMD_FAULTS) if point in ('keeper:outdated', 'keeper:resumed') else EPMD_FAULTS
        mapper.ask_for(binary, old)
        stopped = harness.wait_until(lambda: [pid for pid, state in self.processes(mapper).items() if state == 'T'],
                                     lambda: f'something stops at {point}: {mapper.log()}')
        return mapper, before, keeper, old, stopped[0]

    def heals(self, mapper, before, what):
        """In the end one keeper and one mapper serve all that was registered."""
        def is_well():
            processes = self.processes(mapper)
            for pid, state in processes.items():
                if state == 'T':
                    os.kill(pid, signal.SIGCONT)  # another one came to the same point
            with contextlib.suppress(OSError, AssertionError):
                current = status(mapper)
                return (len(processes) == 2 and current['running'] and current['pid'] in processes and
                        dict(mapper.names()) == {name: port for name, (port, _) in before.items()})
            return False
        def stays_well():
            # A predecessor that has handed over is there for another moment.
            for _ in range(10):
                if not is_well():
                    return False
                time.sleep(0.05)
            return True
        harness.wait_until(stays_well, lambda: f'{what}: {self.processes(mapper)} {status(mapper)} {mapper.log()}', 60)
        self.check_kept(mapper, before)
        states = {node['state'] for node in json.loads(epmdctl(mapper, '--json', 'list').stdout)}
        self.assertEqual(states, {'live'}, what)
        # Also when all have died who knew: somebody waits for it.
        # Nothing is read while it is being written.
        outcome = harness.wait_until(lambda: (status(mapper)['last_upgrade'] or {}).get('outcome'), f'{what}: an outcome')
        self.assertIn(outcome, ('succeeded', 'failed'), what)

    def test_who_stops_is_killed(self):
        for point in self.POINTS:
            with self.subTest(point=point):
                mapper, before, _, _, stopped = self.upgrade_until(point)
                os.kill(stopped, signal.SIGKILL)
                self.heals(mapper, before, f'{point}: the one that was there')
                mapper.close()

    def test_the_others_are_killed(self):
        for point in self.POINTS:
            for victim in ('keeper', 'old', 'new'):
                mapper, before, keeper, old, stopped = self.upgrade_until(point)
                others = {'keeper': {keeper}, 'old': {old}, 'new': mapper.family() - {keeper, old}}[victim] - {stopped}
                with self.subTest(point=point, victim=victim):
                    for pid in others:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(stopped, signal.SIGCONT)
                    self.heals(mapper, before, f'{point}: {victim}')
                mapper.close()

    def test_upgrade_asked_for_before_it_serves(self):
        """A mapper that starts is not ended by it, and upgraded when it serves."""
        mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': 'mapper:starting=stop'})
        self.addCleanup(mapper.close)
        mapper.start(answering=False)
        first = harness.wait_until(lambda: [pid for pid, state in self.processes(mapper).items() if state == 'T'],
                                   lambda: f'it stops: {mapper.log()}')[0]
        os.kill(mapper.pid, signal.SIGHUP)
        os.kill(first, signal.SIGCONT)
        second = harness.wait_until(lambda: [pid for pid, state in self.processes(mapper).items() if state == 'T'],
                                    lambda: f'it is upgraded: {mapper.log()}')[0]
        self.assertEqual(mapper.mapper_pid(), first)
        os.kill(second, signal.SIGCONT)
        harness.wait_until(lambda: mapper.mapper_pid() == second, lambda: f'the next one serves: {mapper.log()}')
        self.assertNotIn('was ended', mapper.log())

    def late_node(self, mapper):
        """A node that a predecessor has registered while it leaves: (its connection, its creation, the predecessor, which stands
        still before it passes the node on)."""
        old = mapper.mapper_pid()
        request = harness.frame(harness.alive2_body(b'late', port=7777))
        connections = status(mapper)['connections']
        connection = mapper.connect()
        self.addCleanup(connection.close)
        connection.sendall(request[:4])
        harness.wait_until(lambda: status(mapper)['connections'] == connections + 1, 'the request is awaited')
        self.upgrade_standing_still(mapper, old)
        connection.sendall(request[4:])
        os.kill(old, signal.SIGCONT)
        result, creation = harness.alive2_result(harness.receive_alive2_reply(connection))
        self.assertEqual(result, 0)
        harness.wait_until(lambda: state_of(old) == 'T', lambda: f'it is about to pass the node on: {mapper.log()}')
        return connection, creation, old

    def upgrade_standing_still(self, mapper, old):
        mapper.ask_for(EPMD_FAULTS, old)
        harness.wait_until(lambda: state_of(old) == 'T', lambda: f'it has handed over: {mapper.log()}')
        harness.wait_until(lambda: status(mapper)['pid'] not in (0, old), lambda: f'another one serves: {mapper.log()}')

    def mapper_that_passes_late(self):
        mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': 'predecessor:yours=stop,predecessor:passing=stop'})
        self.addCleanup(mapper.close)
        mapper.start()
        self.register(mapper, 20)
        return mapper, creations(mapper)

    def test_node_that_is_not_passed_on(self):
        """The predecessor dies with the connection: the node comes back, as one of OTP 24 and later does."""
        mapper, before = self.mapper_that_passes_late()
        _, creation, old = self.late_node(mapper)
        os.kill(old, signal.SIGKILL)
        self.assertEqual(mapper.lookup(b'late').port, 7777)

        def comes_back():
            again, reply = mapper.alive2(b'late', port=7777)
            if harness.alive2_result(reply)[0] == 0:
                self.addCleanup(again.close)
                return harness.alive2_result(reply)
            again.close()
            return None
        self.assertEqual(harness.wait_until(comes_back, lambda: f'its name is its own: {mapper.log()}'), (0, creation))
        before[b'late'] = (7777, creation)
        self.heals(mapper, before, 'not passed on')

    def test_node_that_is_passed_on_late(self):
        """However slow the predecessor is: also when its successor has one of its own meanwhile."""
        for upgrades in (1, 2):
            with self.subTest(upgrades=upgrades):
                mapper, before = self.mapper_that_passes_late()
                connection, creation, old = self.late_node(mapper)
                stopped = [old]
                if upgrades == 2:
                    stopped.append(mapper.mapper_pid())
                    self.upgrade_standing_still(mapper, stopped[-1])
                    os.kill(stopped[-1], signal.SIGCONT)
                    harness.wait_until(lambda pid=stopped[-1]: state_of(pid) == 'T', 'it is about to pass nodes on')
                    os.kill(stopped[-1], signal.SIGCONT)
                time.sleep(3)  # in which nothing is to happen to it
                os.kill(old, signal.SIGCONT)
                harness.wait_until(lambda: not set(stopped) & mapper.family(), 'they end')
                self.assertEqual(select.select([connection], [], [], 0)[0], [], mapper.log())
                before[b'late'] = (7777, creation)
                self.heals(mapper, before, 'passed on late')
                connection.close()
                mapper.wait_gone(b'late')
                mapper.close()

    def test_watcher_that_is_slow(self):
        """The new program does not get ahead of the one that tells who it is, and whom it ends."""
        mapper, before, _, old, watcher = self.upgrade_until('watcher:started')
        time.sleep(0.5)  # in which nothing happens
        self.assertEqual(state_of(watcher), 'T', mapper.log())
        os.kill(watcher, signal.SIGCONT)
        harness.wait_until(lambda: status(mapper)['pid'] not in (0, old), lambda: f'upgraded: {mapper.log()}')
        self.heals(mapper, before, 'a slow watcher')

    @unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
    def test_predecessor_that_hands_nothing_over(self):
        """The successor's patience ends; the predecessor that goes on then serves on."""
        mapper, before, keeper, old, stopped = self.upgrade_until('predecessor:prepared')
        self.assertEqual(stopped, old)
        harness.wait_until(lambda: set(self.processes(mapper)) <= {keeper, old} or
                           all(state_of(pid) == 'Z' for pid in set(self.processes(mapper)) - {keeper, old}),
                           lambda: f'the successor ends: {self.processes(mapper)}', 60)
        self.assertIn('hands nothing over', mapper.log())
        os.kill(old, signal.SIGCONT)
        harness.wait_until(lambda: 'the upgrade failed' in mapper.log(), lambda: f'it is rolled back: {mapper.log()}')
        self.assertEqual(status(mapper)['pid'], old)
        self.heals(mapper, before, 'nothing was handed over')

    def test_commit_at_the_moment_it_is_given_up(self):
        """The predecessor's patience ends, and the successor commits, before it is killed for that."""
        mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': 'successor:commit=stop,predecessor:failed=stop'})
        self.addCleanup(mapper.close)
        mapper.start()
        self.register(mapper, 20)
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 20, 'all are stored')
        old = mapper.mapper_pid()
        os.kill(old, signal.SIGHUP)

        def stopped():
            return {pid for pid, state in self.processes(mapper).items() if state == 'T'}
        harness.wait_until(lambda: len(stopped()) == 2, lambda: f'both stop: {mapper.log()}', 30)
        new, = stopped() - {old}
        os.kill(new, signal.SIGCONT)
        harness.wait_until(lambda: status(mapper)['pid'] == new, lambda: f'the successor serves: {mapper.log()}')
        os.kill(old, signal.SIGCONT)
        self.heals(mapper, before, 'committed when it was given up')
        self.assertNotIn(old, self.processes(mapper))


@harness.have_erlang
class AutoStartTest(CustodyCase):
    """The failure that started this project: the mapper came with a release, and went with it."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-story-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.port = harness.free_port()
        self.client = harness.Client(self.port)
        self.release = os.path.join(self.directory, 'release')
        self.deploy()
        self.addCleanup(self.end_mapper)

    def deploy(self):
        """Overwrites the release that brings the mapper along."""
        shutil.rmtree(self.release, ignore_errors=True)
        os.mkdir(self.release)
        self.epmd = os.path.join(self.release, 'epmd')
        shutil.copy(harness.EPMD, self.epmd)

    def end_mapper(self):
        """Kills keeper and mapper at once: neither may start the other again."""
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in harness.listeners(self.port):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal_number)
        harness.wait_until(lambda: not harness.listeners(self.port), 'the mapper ended')

    def node(self, name):
        node = harness.ErlangNode(f'{name}@localhost', self.port, self.directory,
                                  epmd_command=f'"{self.epmd}" -daemon -address 127.0.0.1 -loop {harness.LOOP}',
                                  env={'RUNTIME_DIRECTORY': self.directory})
        self.addCleanup(node.close)
        self.assertEqual(node.evaluate('node()'), f'{name}@localhost')
        return node

    def test_release_that_started_it_is_redeployed(self):
        a = self.node('a')
        b = self.node('b')
        self.assertEqual(a.evaluate("net_adm:ping('b@localhost')"), 'pong')
        for _ in range(3):
            port = self.client.wait_registered(b'b').port
            a.close()
            self.deploy()
            a = self.node('a')
            self.assertEqual(self.client.lookup(b'b').port, port)
            self.assertEqual(a.evaluate("net_adm:ping('b@localhost')"), 'pong')
            self.assertEqual(b.evaluate("net_adm:ping('a@localhost')"), 'pong')

    def test_process_group_of_the_node_that_started_it_is_killed(self):
        a = self.node('a')
        b = self.node('b')
        port = self.client.wait_registered(b'b').port
        os.killpg(os.getpgid(a.pid), signal.SIGKILL)
        self.client.wait_gone(b'a')
        self.assertEqual(self.client.lookup(b'b').port, port)
        a = self.node('a')
        self.assertEqual(a.evaluate("net_adm:ping('b@localhost')"), 'pong')
        self.assertEqual(b.evaluate("net_adm:ping('a@localhost')"), 'pong')

    def test_everything_of_the_mapper_is_killed_with_it(self):
        """As a control group is: the next mapper adopts who is still alive."""
        a = self.node('a')
        b = self.node('b')
        port = self.client.wait_registered(b'b').port
        time.sleep(0.2)
        self.end_mapper()
        a.close()
        self.deploy()
        a = self.node('a')
        self.assertEqual(self.client.lookup(b'b').port, port)
        self.assertEqual(a.evaluate("net_adm:ping('b@localhost')"), 'pong')
        self.assertEqual(b.evaluate("net_adm:ping('a@localhost')"), 'pong')


if __name__ == '__main__':
    unittest.main()
