"""Nodes stay registered through restart and crash of the mapper (P2, INV-8 to INV-10)."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import Kept, Mapper, load
from harness.custody import CustodyCase, NODES
from harness.epmdctl import creations, epmdctl, status
from harness.process import state_of

KILLS = harness.scaled('KILLS', 100)
REFUSAL_KILLS = harness.scaled('REFUSAL_KILLS', 160, least=20)
GIVE_UP_S = 20  # kGiveUpMs in daemon/process/mapper_watch.h
ACCEPTS_PER_EVENT = 32  # of a worker: kEventsMax in daemon/loop/ready_set.h


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

    def test_nobody_is_refused_while_nodes_are_handed_over(self):
        """While another mapper takes them, nodes are counted once, as before: more than half of what the limit allows."""
        mapper = self.kept(descriptors=512)
        self.register(mapper, 300)
        ended = threading.Event()
        def register(thread):
            number = 0
            while not ended.is_set():
                number += 1
                # Those whose mapper is killed are lost.
                with contextlib.suppress(OSError), mapper.connect() as connection:
                    connection.sendall(harness.frame(harness.alive2_body(b'fresh%d-%d' % (thread, number))))
                    harness.receive_alive2_reply(connection)
        threads = [threading.Thread(target=register, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(REFUSAL_KILLS):
                pid = mapper.mapper_pid()
                os.kill(pid, signal.SIGKILL)
                harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        self.assertEqual(status(mapper)['counters']['refused_descriptors'], 0, mapper.log())

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

    def with_damaged_registry(self, mapper):
        """Kills the mapper, and the next ones cannot start: its registry does not begin as one. Returns what mends that."""
        def begin(replacement):
            with open(mapper.registry, 'r+b', buffering=0) as registry:
                begins = registry.read(8)
                registry.seek(0)
                registry.write(replacement)
            return begins
        pid = mapper.mapper_pid()
        os.kill(mapper.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        begins = begin(b'\0' * 8)
        os.kill(mapper.pid, signal.SIGCONT)
        harness.wait_until(lambda: mapper.log().count('ended with exit code 1') >= 2, lambda: f'it tries twice: {mapper.log()}')
        return lambda: begin(begins)

    def test_mapper_that_cannot_start_again_is_tried_until_it_can(self):
        mapper = self.kept()
        self.register(mapper, 20)
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 20, 'all are stored')
        self.with_damaged_registry(mapper)()
        harness.wait_until(mapper._answers, lambda: f'it serves again: {mapper.log()}')
        self.check_kept(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)

    def another_takes_over(self, mapper, reason):
        """The keeper gives up: another mapper has the port, and nodes that notice the end register there."""
        node = self.lost
        begin = time.monotonic()
        self.assertEqual(mapper.wait(GIVE_UP_S + harness.PATIENCE_S), 1)
        self.assertLess(time.monotonic() - begin, GIVE_UP_S + 10)
        self.assertIn('no mapper could be started', mapper.log())
        self.assertIn(reason, mapper.log())
        # What it has killed last may be ending.
        harness.wait_until(lambda: not mapper.family(), lambda: f'nothing is left: {mapper.family()}')
        self.assertEqual(harness.listeners(mapper.port), set())
        self.assertTrue(harness.sees_close(node))
        with Mapper(port=mapper.port) as other:
            with other.register(b'node0')[0]:
                self.assertIsNotNone(other.lookup(b'node0'))

    @unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
    def test_mapper_that_can_never_start_again_frees_the_port(self):
        mapper = self.kept()
        self.lost, _ = mapper.register(b'node0')
        self.addCleanup(self.lost.close)
        self.with_damaged_registry(mapper)
        self.another_takes_over(mapper, 'ended with exit code 1')

    @unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
    @unittest.skipUnless(os.path.exists(harness.EPMD_FAULTS), 'no variant with fault points in this build')
    def test_mapper_that_hangs_when_it_starts_again_frees_the_port(self):
        mapper = Kept(binary=harness.EPMD_FAULTS, env={'EPMD_FAULTS': 'mapper:starting=stop'})
        self.addCleanup(mapper.close)
        mapper.start(answering=False)
        first, = harness.wait_until(lambda: [pid for pid in mapper.family() if state_of(pid) == 'T'], 'the first one starts')
        os.kill(first, signal.SIGCONT)
        harness.wait_until(mapper._answers, 'it serves')
        self.lost, _ = mapper.register(b'node0')
        self.addCleanup(self.lost.close)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 1, 'it is stored')
        os.kill(first, signal.SIGKILL)
        self.another_takes_over(mapper, 'was ended by signal KILL')

    @unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
    @unittest.skipUnless(os.path.exists(harness.EPMD_FAULTS), 'no variant with fault points in this build')
    def test_mapper_that_crashes_whenever_it_serves_again_frees_the_port(self):
        mapper = Kept(binary=harness.EPMD_FAULTS, env={'EPMD_FAULTS': 'mapper:adopting=segv'})
        self.addCleanup(mapper.close)
        mapper.start()
        self.lost, _ = mapper.register(b'node0')
        self.addCleanup(self.lost.close)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 1, 'it is stored')
        os.kill(mapper.mapper_pid(), signal.SIGKILL)
        self.another_takes_over(mapper, 'was ended by signal SEGV')
        # It has backed off.
        self.assertLess(mapper.log().count('SEGV'), 12)

    def test_keeper_ends_when_asked_to_while_no_mapper_can_start(self):
        mapper = self.kept()
        self.register(mapper, 1)
        self.with_damaged_registry(mapper)
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

    def test_what_has_ended_is_released(self):
        """A moment later, after a kill and after an upgrade: none stays as a zombie."""
        mapper = self.kept()
        kill = lambda: os.kill(mapper.mapper_pid(), signal.SIGKILL)
        for end in (kill, lambda: self.assertEqual(mapper.upgraded().returncode, 0, mapper.log()), kill):
            pid = mapper.mapper_pid()
            end()
            harness.wait_until(lambda p=pid: mapper.mapper_pid() not in (0, p), 'there is another mapper')
            harness.wait_until(lambda p=pid: state_of(p) == '', lambda p=pid: f'process {p} is gone, not {state_of(p)}')

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
        # It serves before it knows that nobody hands the connection over.
        harness.wait_until(lambda: self.orphaned(mapper) == {b'old'}, 'it is an orphan')
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
