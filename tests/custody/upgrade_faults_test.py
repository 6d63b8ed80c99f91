"""Nodes stay registered whoever dies or hangs at whichever step of an upgrade (P2, P3, INV-8 to INV-10)."""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time
import unittest

import harness
from harness import EPMD_FAULTS, Kept, faults
from harness.custody import CustodyCase
from harness.epmdctl import creations, epmdctl, status
from harness.process import state_of


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
        listener = socket.create_server((harness.HOST, 0))
        self.addCleanup(listener.close)
        self.late_port = listener.getsockname()[1]
        request = harness.frame(harness.alive2_body(b'late', port=self.late_port))
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
        self.assertEqual(mapper.lookup(b'late').port, self.late_port)

        def comes_back():
            again, reply = mapper.alive2(b'late', port=self.late_port)
            if harness.alive2_result(reply)[0] == 0:
                self.addCleanup(again.close)
                return harness.alive2_result(reply)
            again.close()
            return None
        self.assertEqual(harness.wait_until(comes_back, lambda: f'its name is its own: {mapper.log()}'), (0, creation))
        before[b'late'] = (self.late_port, creation)
        self.heals(mapper, before, 'not passed on')

    def test_node_that_is_passed_on_late(self):
        """However slow the predecessor is, and an upgrade that is asked for meanwhile waits for it."""
        for upgrades in (1, 2):
            with self.subTest(upgrades=upgrades):
                mapper, before = self.mapper_that_passes_late()
                connection, creation, old = self.late_node(mapper)
                leaving = [old]
                if upgrades == 2:
                    leaving.append(mapper.mapper_pid())
                    mapper.ask_for(EPMD_FAULTS, leaving[-1])
                time.sleep(3)  # in which nothing is to happen to it
                self.assertEqual(mapper.mapper_pid(), status(mapper)['pid'])
                if upgrades == 2:
                    self.assertNotEqual(state_of(leaving[1]), 'T', mapper.log())
                os.kill(old, signal.SIGCONT)
                def have_ended():
                    # The second one stops twice: before it hands over, and before it passes nodes on.
                    for pid in leaving[1:]:
                        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                            if state_of(pid) == 'T':
                                os.kill(pid, signal.SIGCONT)
                    return not set(leaving) & mapper.family()
                harness.wait_until(have_ended, lambda: f'they end: {mapper.log()}')
                self.assertEqual(select.select([connection], [], [], 0)[0], [], mapper.log())
                before[b'late'] = (self.late_port, creation)
                self.heals(mapper, before, 'passed on late')
                connection.close()
                mapper.wait_gone(b'late')
                mapper.close()

    def test_name_of_a_node_that_is_passed_on_late(self):
        """Who asks for it waits until its connection is there: then it is known whether the node has left."""
        for has_left in (True, False):
            with self.subTest(has_left=has_left):
                mapper, before = self.mapper_that_passes_late()
                connection, creation, old = self.late_node(mapper)
                if has_left:
                    connection.close()
                asking = mapper.connect()
                self.addCleanup(asking.close)
                asking.sendall(harness.frame(harness.alive2_body(b'late', port=self.late_port)))
                self.assertEqual(select.select([asking], [], [], 1)[0], [], mapper.log())
                os.kill(old, signal.SIGCONT)
                result, _ = harness.alive2_result(harness.receive_alive2_reply(asking))
                self.assertEqual(result == 0, has_left, mapper.log())
                harness.wait_until(lambda: old not in mapper.family(), 'it ends')
                self.assertNotIn('have lost their connection', mapper.log())
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


@unittest.skipUnless(os.path.exists(EPMD_FAULTS), 'no variant with fault points in this build')
@unittest.skipUnless(faults.INJECT, 'no library that lets calls fail')
@unittest.skipIf(harness.INSTRUMENTED, 'sanitizers must be loaded before it')
@unittest.skipIf(harness.LOOP == 'epoll', 'takes long, and is the same with both event loops')
class UnkillableTest(CustodyCase):
    """A successor that is given up and cannot be ended, as one that hangs in the kernel."""

    def test_the_workers_do_not_wait_for_it(self):
        for point in ('successor:prepared', 'successor:yours', 'successor:commit'):
            with self.subTest(point=point):
                switch = faults.Switch([('pidfd_send_signal', errno.EPERM, 1000), ('kill', errno.EPERM, 1000)])
                mapper = Kept(binary=EPMD_FAULTS, env={'EPMD_FAULTS': f'{point}=stop', **switch.environment})
                self.addCleanup(mapper.close)
                mapper.start()
                self.register(mapper, 20)
                before = creations(mapper)
                old = mapper.mapper_pid()
                switch.turn(True)
                os.kill(old, signal.SIGHUP)
                harness.wait_until(lambda m=mapper: 'the upgrade failed' in m.log(), lambda: f'it is given up: {mapper.log()}', 60)
                # It is there, and stays so.
                stopped, = [pid for pid in mapper.family() if state_of(pid) == 'T']
                self.check_kept(mapper, before)
                self.assertEqual(status(mapper)['pid'], old)
                with mapper.register(b'another')[0]:
                    self.assertIsNotNone(mapper.lookup(b'another'))
                # When it goes on it finds that it has failed, and ends.
                switch.turn(False)
                os.kill(stopped, signal.SIGCONT)
                harness.wait_until(lambda: state_of(stopped) in ('', 'Z', 'X'), 'the end of the successor')
                self.check_kept(mapper, before)
                self.assertEqual(status(mapper)['pid'], old)
                mapper.close()


if __name__ == '__main__':
    unittest.main()
