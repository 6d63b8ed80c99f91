"""A mapper that starts serves first and adopts the connections of its nodes behind that: nothing is lost, and nobody waits who need
not (P2, P3, P6)."""

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
import unittest

import harness
from harness import EPMD_FAULTS, Kept
from harness.custody import CustodyCase
from harness.epmdctl import creations, epmdctl, status
from harness.process import state_of

MESSAGE = 128  # connections in a message: kNotifyFdsMax in daemon/custody/notify.h
SILENCE_S = 5  # kSilenceMaxMs in daemon/mapper/adoption.h


class AdoptionCase(CustodyCase):

    def setUp(self):
        self.nodes = {}  # {name: connection}

    def hold(self, mapper, count, prefix=b'node'):
        """Nodes whose connections the test may end: {name: (port, creation)}."""
        before = {}
        for number in range(count):
            name = b'%b%d' % (prefix, number)
            connection, creation = mapper.register(name, port=10000 + number)
            self.addCleanup(connection.close)
            self.nodes[name] = connection
            before[name] = (10000 + number, creation)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= count, 'all are stored')
        return before

    def asks(self, mapper, name, port=9):
        """A node that asks for the name, and does not wait for the reply: its connection."""
        connection = mapper.connect()
        self.addCleanup(connection.close)
        connection.sendall(harness.frame(harness.alive2_body(name, port=port)))
        return connection

    def answered(self, connections, timeout_s=0):
        end = time.monotonic() + timeout_s
        poll = select.poll()
        for connection in connections:
            poll.register(connection, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(0)}
            if len(ready) == len(connections) or time.monotonic() >= end:
                return [connection for connection in connections if connection.fileno() in ready]
            time.sleep(0.01)

    def result(self, connection):
        return harness.alive2_result(harness.receive_alive2_reply(connection))

    def check_live(self, mapper, before):
        """All are kept, and watched."""
        self.check_kept(mapper, before)
        def others():
            states = {node['name'].encode(): node['state'] for node in json.loads(epmdctl(mapper, '--json', 'list').stdout)}
            return [name for name in before if states.get(name) != 'live']
        harness.wait_until(lambda: not others(), lambda: f'all are live: {others()} {mapper.log()}')
        for name in list(before)[::len(before) // 20 or 1]:
            self.nodes.pop(name).close()
            mapper.wait_gone(name)

    def another(self, mapper, pid):
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, lambda: f'another: {mapper.log()}')


@unittest.skipUnless(os.path.exists(EPMD_FAULTS), 'no variant with fault points in this build')
class HalfAdoptedTest(AdoptionCase):
    """The keeper, or the mapper, stops after the first message of connections."""

    COUNT = 3 * MESSAGE

    def stopping(self, point):
        mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': f'{point}=stop'})
        self.addCleanup(mapper.close)
        self.addCleanup(self.nudge_to_the_end, mapper)
        mapper.start()
        if point.startswith('keeper'):
            self.goes_on(mapper.pid)  # it has handed over that it holds nothing
        return mapper

    def stops(self, pid):
        harness.wait_until(lambda: state_of(pid) == 'T', lambda: f'{pid} stops')

    def goes_on(self, pid):
        """From where it stands, or will stand in a moment."""
        self.stops(pid)
        os.kill(pid, signal.SIGCONT)

    def all_handed_over(self, mapper, messages=COUNT // MESSAGE + 1):
        """The keeper stops after each message, of which the last says that these were all."""
        for _ in range(messages):
            self.goes_on(mapper.pid)

    def nudged(self, mapper):
        """True; the keeper goes on, if it has stopped."""
        if state_of(mapper.pid) == 'T':
            os.kill(mapper.pid, signal.SIGCONT)
        return True

    def nudge_to_the_end(self, mapper):
        for _ in range(20):
            self.nudged(mapper)
            time.sleep(0.02)

    @contextlib.contextmanager
    def going_on(self, mapper):
        """Whichever mapper stops meanwhile is sent on."""
        ended = threading.Event()
        def send_on():
            while not ended.wait(0.02):
                pid = mapper.mapper_pid()
                if pid and state_of(pid) == 'T':
                    os.kill(pid, signal.SIGCONT)
        thread = threading.Thread(target=send_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def half_adopted(self):
        """A mapper that serves and has a third of the connections: (mapper, what was registered)."""
        mapper = self.stopping('keeper:handing')
        before = self.hold(mapper, self.COUNT)
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        self.stops(mapper.pid)
        self.another(mapper, pid)
        harness.wait_until(lambda: status(mapper)['connections'] >= MESSAGE, 'the first message is taken')
        return mapper, before

    def test_who_waits_and_who_does_not(self):
        mapper, before = self.half_adopted()
        # The registry answers.
        self.check_kept(mapper, before)
        for name, (port, _) in before.items():
            self.assertEqual(mapper.lookup(name).port, port)
        # So do names that nobody holds.
        with mapper.register(b'another')[0]:
            self.assertIsNotNone(mapper.lookup(b'another'))
        # Of those that are held, the names of nodes whose connections have come are refused; the others wait.
        asking = [self.asks(mapper, name) for name in before]
        harness.wait_until(lambda: len(self.answered(asking)) == MESSAGE, lambda: f'{len(self.answered(asking))} are refused')
        waiting = [connection for connection in asking if connection not in self.answered(asking)]
        time.sleep(0.5)  # in which none is answered
        self.assertEqual(self.answered(waiting), [])
        # Each waits for one connection alone.
        self.goes_on(mapper.pid)
        harness.wait_until(lambda: len(self.answered(asking)) == 2 * MESSAGE, lambda: f'{len(self.answered(asking))} are refused')
        self.all_handed_over(mapper, 3)
        self.assertEqual(len(self.answered(asking, harness.PATIENCE_S)), len(asking))
        self.assertEqual({self.result(connection)[0] for connection in asking}, {1})
        self.assertEqual(status(mapper)['orphaned'], 0)
        self.check_live(mapper, before)

    def test_nodes_that_come_back_before_they_are_adopted(self):
        mapper, before = self.half_adopted()
        back = {}
        for name in list(before)[::7]:
            self.nodes.pop(name).close()
            back[name] = self.asks(mapper, name, port=9)
        self.all_handed_over(mapper)
        for name, connection in back.items():
            result, creation = self.result(connection)
            self.assertEqual(result, 0, name)
            self.assertNotEqual(creation, before[name][1])
            self.nodes[name] = connection
            before[name] = (9, creation)
        self.check_live(mapper, before)

    def test_nodes_that_leave_before_they_are_adopted(self):
        mapper, before = self.half_adopted()
        left = list(before)[::5]
        for name in left:
            self.nodes.pop(name).close()
            del before[name]
        self.all_handed_over(mapper)
        for name in left:
            mapper.wait_gone(name)
        self.check_live(mapper, before)

    def test_mapper_that_dies_in_the_middle(self):
        mapper, before = self.half_adopted()
        for _ in range(3):
            pid = mapper.mapper_pid()
            os.kill(pid, signal.SIGKILL)
            # The keeper may send the dead one a message more.
            harness.wait_until(lambda p=pid: self.nudged(mapper) and status(mapper)['running'] and mapper.mapper_pid() != p,
                               lambda: f'another: {mapper.log()}')
        harness.wait_until(lambda: self.nudged(mapper) and status(mapper)['connections'] >= self.COUNT, 'all are handed over')
        self.nudge_to_the_end(mapper)
        self.check_live(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)

    def test_mapper_is_told_to_end_in_the_middle(self):
        mapper, _ = self.half_adopted()
        os.kill(mapper.mapper_pid(), signal.SIGTERM)
        harness.wait_until(lambda: self.nudged(mapper) and not mapper.family(), lambda: f'all end: {mapper.log()}')
        self.assertEqual(mapper.wait(), 0)
        self.assertEqual(mapper.family(), set())

    def test_upgrade_that_is_asked_for_in_the_middle(self):
        """It waits until all can be handed over."""
        mapper, before = self.half_adopted()
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.5)
        self.assertEqual(mapper.mapper_pid(), pid)
        self.assertNotIn('upgrade: starts', mapper.log())
        self.all_handed_over(mapper)
        self.another(mapper, pid)
        self.check_live(mapper, before)

    def test_keeper_that_hands_nothing_more_over(self):
        """It is waited for as long as kSilenceMaxMs; what comes later is taken all the same."""
        mapper, before = self.half_adopted()
        harness.wait_until(lambda: 'does not hand over' in mapper.log(), 'the patience ends', SILENCE_S + harness.PATIENCE_S)
        # Those without a connection do not listen.
        lost = set(before) - set(creations(mapper))
        self.assertLessEqual(len(lost), self.COUNT - MESSAGE)
        with mapper.register(b'another')[0]:
            self.assertIsNotNone(mapper.lookup(b'another'))
        self.all_handed_over(mapper)
        for name in lost:
            del before[name]
            self.nodes.pop(name)
        self.check_live(mapper, before)

    def test_keeper_that_dies_in_the_middle(self):
        """Its replacement has what was handed over; the other connections are gone with it."""
        mapper, before = self.half_adopted()
        os.kill(mapper.pid, signal.SIGKILL)
        mapper.wait()
        adopted = {name for name, connection in self.nodes.items() if not self.answered([connection])}
        harness.wait_until(lambda: len(mapper.family()) == 2, lambda: f'another keeper: {mapper.log()}')
        pid = mapper.mapper_pid()
        keeper, = mapper.family() - {pid}
        with contextlib.suppress(AssertionError):
            self.goes_on(keeper)
        kept = {name: before[name] for name in adopted}
        self.assertGreaterEqual(len(kept), MESSAGE)
        self.check_live(mapper, kept)

    def test_successor_that_dies_in_the_middle(self):
        mapper = self.stopping('mapper:adopting')
        before = self.hold(mapper, self.COUNT)
        old = mapper.mapper_pid()
        os.kill(old, signal.SIGHUP)
        self.another(mapper, old)
        new = mapper.mapper_pid()
        self.stops(new)
        os.kill(new, signal.SIGKILL)
        with self.going_on(mapper):
            harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() not in (old, new) and
                               status(mapper)['connections'] >= self.COUNT,
                               lambda: f'the next one has adopted all: {mapper.log()}', 60)
            self.check_live(mapper, before)


class ReadySetsTest(AdoptionCase):
    """The keeper holds the sets with which the mapper watches its connections, so that one that dies does not have to close them; the
    next mapper does, when it has adopted all."""

    COUNT = 300
    WORKERS = 2

    def watched(self, pid):
        """How many descriptors each set of a process watches; of those that it closes meanwhile 0."""
        counts = []
        for fd in os.listdir(f'/proc/{pid}/fd'):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f'/proc/{pid}/fd/{fd}') == 'anon_inode:[eventpoll]':
                    with open(f'/proc/{pid}/fdinfo/{fd}') as info:
                        counts.append(sum(line.startswith('tfd:') for line in info))
        return sorted(counts)

    def check_sets(self, mapper):
        """The sets of the mapper's workers are the keeper's, too. Each of the two has another one."""
        pid = mapper.mapper_pid()
        keeper, = mapper.family() - {pid}
        def both():
            of_mapper, of_keeper = self.watched(pid), self.watched(keeper)
            return len(of_mapper) == len(of_keeper) == self.WORKERS + 1 and sum(of_keeper) >= 2 * self.COUNT
        harness.wait_until(both, lambda: f'{self.watched(pid)} {self.watched(keeper)} {mapper.log()}')
        self.assertGreaterEqual(sum(self.watched(pid)), self.COUNT)

    def test_through_crashes_upgrades_and_the_death_of_the_keeper(self):
        mapper = self.kept(args=['-workers', str(self.WORKERS)])
        before = self.hold(mapper, self.COUNT)
        self.check_sets(mapper)
        for number in range(6):
            with self.subTest(number=number):
                pid = mapper.mapper_pid()
                if number == 4:
                    keeper, = mapper.family() - {pid}
                    os.kill(keeper, signal.SIGKILL)
                    mapper.wait()
                    harness.wait_until(lambda k=keeper: len(mapper.family() - {k}) == 2, lambda: f'another keeper: {mapper.log()}')
                else:
                    os.kill(pid, signal.SIGHUP if number % 2 else signal.SIGKILL)
                    self.another(mapper, pid)
                    harness.wait_until(lambda p=pid: not harness.process_exists(p), 'the former one has ended')
                self.check_sets(mapper)
        self.check_live(mapper, before)

    def test_next_mapper_that_dies_before_it_has_closed_them(self):
        mapper = self.kept(args=['-workers', str(self.WORKERS)])
        before = self.hold(mapper, self.COUNT)
        for _ in range(5):
            pid = mapper.mapper_pid()
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda p=pid: mapper.mapper_pid() not in (0, None, p), lambda: f'another: {mapper.log()}')
        harness.wait_until(lambda: status(mapper)['connections'] >= self.COUNT,
                           lambda: f'all are adopted: {status(mapper)["connections"]} {self.watched(mapper.mapper_pid())}')
        self.check_sets(mapper)
        self.check_live(mapper, before)


class ManyNodesTest(AdoptionCase):

    COUNT = harness.scaled('ADOPTED_NODES', 4000)

    def test_through_crash_and_upgrade(self):
        """Thousands of nodes: some come back at once, some leave, some ask for what others hold."""
        if harness.raise_descriptor_limit() < 2 * self.COUNT + 1000:
            self.skipTest('needs more descriptors')
        mapper = self.kept()
        before = self.hold(mapper, self.COUNT)
        for number in range(4):
            pid = mapper.mapper_pid()
            names = list(before)
            os.kill(pid, signal.SIGKILL if number % 2 == 0 else signal.SIGHUP)
            back, asking, left = {}, [], names[number::97]
            for name in names[number + 1::97]:
                self.nodes.pop(name).close()
                back[name] = self.asks(mapper, name, port=9)
            for name in left:
                self.nodes.pop(name).close()
                del before[name]
            for name in names[number + 2::97]:
                asking.append(self.asks(mapper, name))
            self.another(mapper, pid)
            for name, connection in back.items():
                result, creation = self.result_or_again(mapper, name, connection)
                self.assertEqual(result, 0, (number, name, mapper.log()))
                before[name] = (9, creation)
            for connection in asking:
                # One that the dying mapper had accepted is closed.
                with contextlib.suppress(ConnectionResetError, BrokenPipeError, EOFError, AssertionError):
                    self.assertEqual(self.result(connection)[0], 1)
            for name in left:
                mapper.wait_gone(name)
            self.check_kept(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)
        self.check_live(mapper, before)

    def result_or_again(self, mapper, name, connection):
        """A mapper that is killed may have accepted the request, which it then cannot answer."""
        with contextlib.suppress(OSError, EOFError, AssertionError, IndexError):
            result = self.result(connection)
            self.nodes[name] = connection
            return result
        connection.close()
        self.nodes[name] = self.asks(mapper, name, port=9)
        return self.result(self.nodes[name])


if __name__ == '__main__':
    unittest.main()
