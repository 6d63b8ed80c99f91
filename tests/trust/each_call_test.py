"""Each system call of a mapper fails once, and nothing else does: the first, the second, the third ... of its kind.

The tests of machine_faults_test.py let many fail, by chance; here none is left out that a story gets to. The mapper serves, or ends with
code 1 and says why; nodes that are registered stay (P5); and whatever a half-done step has left, the next try without faults succeeds.
"""

import errno
import os
import signal
import socket
import subprocess
import unittest
import unittest.mock

import harness
from harness import Kept, Mapper
from harness.custody import CustodyCase
from harness.environment import EPMDCTL
from harness.epmdctl import FAILED, NO_REGISTRY, creations, epmdctl, status
from harness.faults import INJECT, Switch

# Of each kind, how many are tried: what is called more often is called in a loop.
NUMBERS = harness.scaled('CALL_NUMBERS', 12)
SLOW_NUMBERS = harness.scaled('SLOW_CALL_NUMBERS', 5)  # where the mapper takes its time, as it is to
NODES = 5
ANSWERED_S = 2
EPMD_NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY') or harness.EPMD + '_next_layout'
EPMDCTL_NEXT_LAYOUT = os.environ.get('EPMDCTL_NEXT_LAYOUT') or EPMDCTL + '_next_layout'
WANTED = os.environ.get('CALLS', '').split()  # for a run by hand: these alone

# Each with an error that Linux, a security module or a full machine may give it.
CALLS = {
    'access': errno.EACCES, 'bind': errno.ENOMEM, 'connect': errno.EAGAIN, 'dup': errno.EMFILE, 'dup3': errno.EMFILE,
    'epoll_create1': errno.EMFILE, 'epoll_ctl': errno.ENOMEM, 'epoll_wait': errno.EINTR, 'eventfd': errno.EMFILE,
    'execve': errno.ENOMEM, 'fallocate64': errno.ENOSPC, 'fchmod': errno.EPERM, 'fchown': errno.EPERM, 'fcntl64': errno.ENOLCK,
    'fdopendir': errno.ENOMEM, 'fork': errno.EAGAIN, 'fstat64': errno.EIO, 'fsync': errno.EIO, 'ftruncate64': errno.ENOSPC,
    'getpeername': errno.ENOBUFS, 'getrandom': errno.ENOSYS, 'getrlimit64': errno.EPERM, 'getsockname': errno.ENOBUFS,
    'getsockopt': errno.ENOBUFS, 'inotify_add_watch': errno.ENOSPC, 'inotify_init1': errno.EMFILE, 'link': errno.ENOSPC,
    'linkat': errno.ENOSPC, 'listen': errno.ENOBUFS, 'memfd_create': errno.EMFILE, 'mkdir': errno.ENOSPC, 'mmap64': errno.ENOMEM,
    'open64': errno.EMFILE, 'openat64': errno.EMFILE, 'opendir': errno.EMFILE, 'pidfd_open': errno.EMFILE,
    'pidfd_send_signal': errno.EPERM, 'pipe2': errno.EMFILE, 'poll': errno.EINTR, 'pread64': errno.EIO,
    'pthread_create': errno.EAGAIN, 'pwritev64v2': errno.ENOSPC, 'read': errno.EINTR, 'readlink': errno.EACCES,
    'recv': errno.ENOMEM, 'recvmsg': errno.ENOMEM, 'rename': errno.ENOSPC, 'renameat2': errno.EINVAL,
    'sched_getaffinity': errno.EINVAL, 'send': errno.ENOBUFS, 'sendmsg': errno.ENOBUFS, 'setrlimit64': errno.EPERM,
    'setsockopt': errno.ENOMEM, 'signalfd': errno.EMFILE, 'socket': errno.EMFILE, 'socketpair': errno.EMFILE, 'stat64': errno.EACCES,
    'timerfd_create': errno.EMFILE, 'timerfd_settime': errno.EINVAL, 'unlink': errno.EACCES, 'waitid': errno.EINTR,
    'waitpid': errno.EINTR, 'write': errno.EINTR, 'ring_init': errno.ENOMEM, 'ring_probe': errno.EPERM,
}


@harness.ours_only
@unittest.skipIf(INJECT is None, 'INJECT_FAULTS, the path of inject_faults.c as a library, is not set')
@unittest.skipIf(harness.INSTRUMENTED, 'a sanitizer wants to be loaded first')
class EachCallTest(CustodyCase):

    def setUp(self):
        self.assertTrue(os.path.exists(INJECT), INJECT)  # The loader only warns.
        self.switch = Switch()
        self.addCleanup(self.switch.close)

    def each(self, story, numbers=NUMBERS):
        """Calls story(), which turns the fault on, for each number of each call until one is not got to."""
        tried = injected = 0
        for call, error in CALLS.items():
            if WANTED and call not in WANTED:
                continue
            for number in range(1, numbers + 1):
                before = self.switch.injected
                self.switch.only(call, error, number)
                with self.subTest(call=call, error=errno.errorcode[error], number=number):
                    try:
                        story()
                    finally:
                        self.switch.turn(False)
                tried += 1
                if self.switch.injected == before:
                    break
                injected += 1
        print(f'\n{self.id()}: {tried} times, {injected} with a fault')
        self.assertGreater(injected, 0)

    def check_serves(self, mapper):
        # Of the loopback addresses, on which it always listens, it may lack one.
        for host in (harness.HOST, '::1'):
            client = harness.Client(mapper.port, host)
            try:
                node, _ = client.register(b'newcomer', port=4711)
            except OSError:
                continue
            with node:
                self.assertEqual(client.lookup(b'newcomer').port, 4711)
            client.wait_gone(b'newcomer')
            return
        self.fail('it serves on no address')

    def start_with_the_fault(self, mapper, may_seem_taken=False):
        """It serves, or ends with code 1 and a line; where the port may seem to be taken, with 0 and none, as for erl."""
        said = os.path.getsize(mapper.log_path) if os.path.exists(mapper.log_path) else 0

        def fate():
            if not mapper.alive():
                return 'ended'
            return 'serves' if 'serves port' in mapper.log()[said:] else None

        with self.switch:
            mapper.start(answering=False)
            became = harness.wait_until(fate, 'it serves or ends')
        if became == 'serves':
            self.check_serves(mapper)
        else:
            lines = mapper.log()[said:].strip().splitlines()
            self.assertEqual(len(lines), mapper.wait(), lines)
            self.assertIn(len(lines), (0, 1) if may_seem_taken else (1,), lines)

    def test_start(self):
        """A first start, with nothing there."""
        def story():
            mapper = Mapper(args=['-workers', '2'], env=self.switch.environment)
            try:
                self.start_with_the_fault(mapper)
                mapper.stop()
                mapper.start()
                self.check_serves(mapper)
            finally:
                mapper.close()
        self.each(story)

    def test_start_after_a_kill(self):
        """A start on what a mapper without a keeper has left: its nodes are orphans until they are known to be gone."""
        mapper = Mapper(args=['-workers', '2'], env=self.switch.environment)
        self.addCleanup(mapper.close)
        mapper.start()
        with socket.create_server((harness.HOST, 0)) as listener:
            connection, creation = mapper.register(b'orphan', port=listener.getsockname()[1])
            self.addCleanup(connection.close)

            def story():
                mapper.stop(signal.SIGKILL)
                # Its sockets may be dying.
                self.start_with_the_fault(mapper, may_seem_taken=True)
                if not mapper.alive():
                    mapper.stop()
                    mapper.start()
                self.assertEqual(mapper.lookup(b'orphan').port, listener.getsockname()[1])
                self.assertEqual(creations(mapper)[b'orphan'][1], creation)
            self.each(story)

    def kill_the_mapper(self, mapper):
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')

    def kill_the_keeper(self, mapper):
        keepers = mapper.family() - {mapper.mapper_pid()}
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: len(mapper.family() - keepers) == 2, lambda: f'another keeper: {mapper.log()[-2000:]}')

    def kept_through(self, act, numbers=NUMBERS, goes_on=True):
        """act(mapper), which returns False when it was refused, with each call failing once: nobody is lost, it is whole again, and what
        was refused is not the next time. goes_on: the same mapper is used for the next call."""
        mappers = []

        def whole(mapper):
            now = status(mapper)
            return now['running'] and now['orphaned'] == 0 and len(mapper.family()) == 2

        def fresh():
            mapper = self.kept(args=['-workers', '2'], env=self.switch.environment)
            nodes = self.register(mapper, NODES)
            harness.wait_until(lambda: status(mapper)['counters']['stored'] >= NODES, 'all are stored')
            mappers.append((mapper, nodes, creations(mapper)))

        def story():
            if not mappers:
                fresh()
            mapper, nodes, before = mappers.pop()
            with self.switch:
                was_refused = act(mapper) is False
            harness.wait_until(lambda: whole(mapper), lambda: f'{mapper.family()} {mapper.log()[-2000:]}')
            self.check_kept(mapper, before)
            self.check_serves(mapper)
            self.assertFalse(was_refused and act(mapper) is False, 'again without a fault')
            if goes_on:
                mappers.append((mapper, nodes, before))  # Unless it is lost.
            else:
                mapper.close()
        self.each(story, numbers)

    def test_kill_of_the_mapper(self):
        self.kept_through(self.kill_the_mapper)

    def test_kill_of_the_keeper(self):
        self.kept_through(self.kill_the_keeper, SLOW_NUMBERS)

    def upgrade(self, mapper, program=None):
        done = mapper.upgraded(program)
        if done.returncode != 0:
            self.assertRegex(done.stderr, 'upgrade failed|has not begun|before it began|does not run')
        return done.returncode == 0

    def test_upgrade(self):
        self.kept_through(self.upgrade)

    @unittest.skipUnless(os.path.exists(EPMD_NEXT_LAYOUT), 'no variant with another layout in this build')
    def test_upgrade_to_another_layout(self):
        with unittest.mock.patch('harness.epmdctl.EPMDCTL', EPMDCTL_NEXT_LAYOUT):
            self.kept_through(lambda mapper: self.upgrade(mapper, EPMD_NEXT_LAYOUT), goes_on=False)

    def test_reload(self):
        def act(mapper):
            try:
                done = epmdctl(mapper, 'reload', timeout_s=ANSWERED_S)
            except subprocess.TimeoutExpired:
                # What the mapper has answered could not be written; epmdctl would say so in half a minute.
                return False
            if done.returncode != 0:
                self.assertRegex(done.stderr, 'reload|refused')
            return done.returncode == 0
        self.kept_through(act, SLOW_NUMBERS)

    def test_daemon(self):
        """Who starts one in the background is told the truth: it serves by then, or it does not and the reason was said."""
        def story():
            mapper = Kept(args=['-daemon', '-workers', '2'])
            try:
                with self.switch:
                    done = harness.run_epmd(*mapper.command()[1:], env=self.switch.environment)
                if done.returncode == 0:
                    self.check_serves(mapper)
                    harness.wait_until(lambda: len(mapper.family()) == 2, lambda: str(mapper.family()))
                else:
                    # 127 of a program that cannot be executed.
                    self.assertIn(done.returncode, (1, 127), done)
                    self.assertTrue(done.stderr, done)
                    harness.wait_until(lambda: not mapper.family(), lambda: str(mapper.family()))
            finally:
                mapper.close()
        self.each(story)

    def test_epmdctl(self):
        """It says what it is to say, or in a line why not; and of a mapper that runs never that it does not."""
        mapper = self.kept()
        self.register(mapper, 1)
        for command in (['status'], ['list'], ['lookup', 'node0'], ['config'], ['doctor']):
            def story(command=command):
                with self.switch:
                    done = epmdctl(mapper, *command, **self.switch.environment)
                self.assertIn(done.returncode, (0, FAILED, NO_REGISTRY), done)
                self.assertTrue(done.returncode == 0 or done.stderr or command == ['doctor'], done)
                self.assertNotRegex(done.stdout + done.stderr, 'does not run|no mapper runs')
            self.each(story)

    def test_registry_that_vanishes(self):
        def act(mapper):
            os.unlink(mapper.registry)
            harness.wait_until(lambda: os.path.exists(mapper.registry), 'it is put back')
        self.kept_through(act, SLOW_NUMBERS)


if __name__ == '__main__':
    unittest.main()
