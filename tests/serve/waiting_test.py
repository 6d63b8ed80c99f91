"""Nobody waits for anybody (P10): what stands still in a mapper, or reads its log, stops no client."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import Kept, Mapper, cpu_quota, load, seccomp, tracer

STALLS = 200
# What a lookup may take that others are there for. It is one or two milliseconds on a machine with nothing else to do.
LOOKUP_S_MAX = 0.5
DESCRIPTOR_ROOM = 65536  # kDescriptorRoom
DROPPED_TEXT = 'lines of the log are left out'


def took(mapper, name=b'node'):
    """Seconds of a lookup."""
    begin = time.monotonic()
    assert mapper.lookup(name) is not None
    return time.monotonic() - begin


@harness.ours_only
@unittest.skipIf(harness.INSTRUMENTED, 'sanitizers stop all threads when they like')
class StandingStillTest(unittest.TestCase):

    def mapper(self, *args):
        mapper = Mapper(args=args)
        self.addCleanup(mapper.close)
        mapper.start()
        node, _ = mapper.register(b'node', port=4711)
        self.addCleanup(node.close)
        return mapper

    def check_each_thread(self, workers):
        """Nobody else comes: the one lookup must find the workers that run."""
        mapper = self.mapper('-workers', str(workers))
        for thread in tracer.threads(mapper.pid):
            with tracer.stopped(thread):
                for _ in range(10):
                    self.assertLess(took(mapper), LOOKUP_S_MAX)

    def test_each_thread_of_an_idle_mapper(self):
        for workers in (2, 4):
            with self.subTest(workers=workers):
                self.check_each_thread(workers)

    def test_at_random_instants_under_load(self):
        """Whoever comes while a thread stands still is answered by others. What that one has accepted waits with it."""
        choice = random.Random(17)
        mapper = self.mapper('-workers', '3')
        threads = tracer.threads(mapper.pid)
        slow = []
        with load.Load(mapper.port, {b'node': 4711}) as running:
            for _ in range(harness.scaled('STALLS', STALLS)):
                time.sleep(choice.random() / 200)
                with tracer.stopped(choice.choice(threads)):
                    slow += [seconds for seconds in (took(mapper) for _ in range(4)) if seconds >= LOOKUP_S_MAX]
        self.assertEqual(slow, [])
        self.assertEqual(running.failures, [])

    @harness.as_root_only
    def test_a_worker_whose_quota_is_used_up(self):
        """It shares a fifth of a core with a process that wants a whole one, and so stands still 80 ms of each 100."""
        mapper = self.mapper('-workers', '2')
        worker = next(thread for thread in tracer.threads(mapper.pid) if tracer.name_of(mapper.pid, thread) == 'epmd-worker')
        with cpu_quota.Quota(percent=20) as quota:
            greedy = subprocess.Popen(['sh', '-c', 'while :; do :; done'])
            try:
                quota.hold(greedy.pid)
                quota.hold(worker)
                harness.wait_until(lambda: quota.throttled() > 0, 'the quota is used up')
                before = quota.throttled()
                with load.Load(mapper.port, {b'node': 4711}) as running:
                    slow = []
                    while quota.throttled() < before + 5:
                        slow += [seconds for seconds in (took(mapper) for _ in range(20)) if seconds >= LOOKUP_S_MAX]
            finally:
                greedy.kill()
                greedy.wait()
                # A cgroup can go when nothing is in it.
                mapper.close()
        self.assertEqual(slow, [])
        self.assertEqual(running.failures, [])

    @harness.as_root_only
    def test_a_mapper_with_a_fifth_of_a_core(self):
        """It makes one worker, and uses so little that the quota is none to it."""
        with cpu_quota.Quota(percent=20) as quota:
            with Mapper(args=['-d'], before_exec=quota.enter) as mapper:
                node, _ = mapper.register(b'node')
                self.assertEqual([tracer.name_of(mapper.pid, thread) for thread in tracer.threads(mapper.pid)].count('epmd-worker'), 1)
                for _ in range(200):
                    self.assertLess(took(mapper), LOOKUP_S_MAX)
                    time.sleep(0.002)
                node.close()

    def test_room_for_descriptors(self):
        """The kernel's table is as large as it will be: to grow it, all who accept would stand still."""
        mapper = self.mapper()
        with open(f'/proc/{mapper.pid}/status') as file:
            size = int(re.search(r'FDSize:\s+(\d+)', file.read()).group(1))
        limit, _ = resource.prlimit(mapper.pid, resource.RLIMIT_NOFILE)
        self.assertGreaterEqual(size, min(limit, DESCRIPTOR_ROOM))

    def test_busy_workers(self):
        """Each of four lookups is answered by a worker of its own."""
        mapper = self.mapper('-workers', '4', '-delay_write', '1')
        times = []
        clients = [threading.Thread(target=lambda: times.append(took(mapper))) for _ in range(4)]
        for client in clients:
            client.start()
            time.sleep(0.15)
        for client in clients:
            client.join()
        self.assertEqual(len(times), 4)
        self.assertLess(max(times), 1.9)


def fill(pipe):
    """Fills a pipe through an end of its own, so that the mapper's own end is still one that blocks."""
    end = os.open(f'/proc/self/fd/{pipe}', os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(end, b'x' * size)
    os.close(end)


class Piped:
    """A mapper whose log is a pipe that nobody reads yet."""

    def __init__(self, mapper):
        self.mapper = mapper
        self.read_end, self.write_end = os.pipe()
        mapper.log_path = f'/proc/self/fd/{self.write_end}'
        # What the mapper's class would look for in its log has no end here.
        mapper.log = lambda: 'a pipe into which it says that it serves port'

    def read(self, pattern):
        """What is in the pipe, down to a text that must come."""
        os.set_blocking(self.read_end, False)
        text = b''

        def has_come():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self.read_end, 65536):
                    text += part
            return re.search(pattern.encode(), text)
        harness.wait_until(has_come, lambda: f'{pattern} in {text[-500:]}')
        return text.decode()

    def __enter__(self):
        self.mapper.start()
        return self

    def __exit__(self, *_):
        self.mapper.close()
        os.close(self.read_end)
        os.close(self.write_end)


@harness.ours_only
class LogTest(unittest.TestCase):

    LINES = 3000  # more than wait for the log's thread

    def test_nobody_reads_it(self):
        """Every request is worth a line. When somebody reads again, it is told how many were left out."""
        with Piped(Mapper(args=['-workers', '2', '-d', '-d', '-d'])) as piped:
            mapper = piped.mapper
            node, _ = mapper.register(b'node')
            fill(piped.write_end)
            for _ in range(self.LINES // 2):
                self.assertLess(took(mapper), LOOKUP_S_MAX)
            text = piped.read(DROPPED_TEXT)
            dropped = int(re.search(rf'(\d+) {DROPPED_TEXT}', text)[1])
            self.assertGreater(dropped, 0)
            self.assertGreater(text.count('PORT2 node'), 100)
            mapper.lookup(b'afterwards')
            piped.read('PORT2 afterwards')
            node.close()

    def test_a_mapper_that_ends_waits_for_its_reader_but_not_for_ever(self):
        with Piped(Mapper()) as piped:
            fill(piped.write_end)
            begin = time.monotonic()
            self.assertEqual(piped.mapper.stop(), 0)
            self.assertLess(time.monotonic() - begin, 5)

    def test_what_was_logged_last_is_written(self):
        with Piped(Mapper()) as piped:
            fill(piped.write_end)
            os.kill(piped.mapper.pid, signal.SIGTERM)
            text = piped.read('ends: got signal TERM')
            self.assertLess(text.index('xxxx'), text.index('ends: got'))
            piped.mapper.wait()

    def test_a_keeper_starts_the_next_mapper(self):
        with Piped(Kept()) as piped:
            mapper = piped.mapper
            node, creation = mapper.register(b'node')
            fill(piped.write_end)
            for _ in range(3):
                before = mapper.mapper_pid()
                os.kill(before, signal.SIGKILL)
                # A request that it still accepts ends with it.
                harness.wait_until(lambda: not harness.process_exists(before), 'its end')
                begin = time.monotonic()
                # Nor does the kernel take apart at once what waited for connections through io_uring.
                harness.wait_until(lambda: mapper.request(b'znode'), 'an answer', 5)
                harness.wait_until(lambda: mapper.mapper_pid() != before, 'another mapper serves')
                self.assertLess(time.monotonic() - begin, harness.PATIENCE_S)
            node.close()

    @harness.as_root_only
    def test_syslog_that_hangs(self):
        """A socket in the place of the journal's, which nobody reads."""
        directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, directory)
        journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(journal.close)
        journal.bind(os.path.join(directory, 'log'))
        prefix = ['unshare', '--mount', 'sh', '-c',
                  f'mount -t tmpfs tmpfs /mnt && cp -a /dev/null /mnt && touch /mnt/log && mount --bind {directory}/log /mnt/log && '
                  'mount --rbind /mnt /dev && exec "$@"', '-']
        if subprocess.run([*prefix, 'true'], capture_output=True, check=False).returncode != 0:
            self.skipTest('no mounts here')
        mapper = Kept(args=['-daemon', '-workers', '2', '-d', '-d'], prefix=prefix)
        self.addCleanup(mapper.close)
        mapper.start(answering=False)
        self.assertEqual(mapper.wait(), 0, mapper.log())
        node, _ = mapper.register(b'node')
        for _ in range(self.LINES // 4):
            self.assertLess(took(mapper), LOOKUP_S_MAX)
        # The lines that it took first are there.
        self.assertRegex(journal.recv(65536).decode(), r'^<\d+>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d epmd\[\d+\]: ')
        before = mapper.mapper_pid()
        os.kill(before, signal.SIGKILL)
        harness.wait_until(lambda: mapper.mapper_pid() != before, 'another mapper serves')
        self.assertLess(took(mapper), LOOKUP_S_MAX)
        node.close()


# The system calls that a worker makes: it waits in the first of them only. Not among them are those that open or write
# files, ask the kernel over netlink, or send to a log.
WAITS = {'io_uring_enter', 'epoll_wait', 'epoll_pwait'}
OF_A_CONNECTION = {'accept4', 'recvfrom', 'sendto', 'shutdown', 'close', 'getsockopt', 'setsockopt', 'getpeername', 'getsockname',
                   'epoll_ctl', 'fcntl', 'connect'}
# eventfds, memory and locks; and once, when a worker begins.
OF_A_WORKER = {'read', 'write', 'futex', 'madvise', 'mmap', 'munmap', 'mprotect', 'brk', 'fstat', 'newfstatat', 'io_uring_register',
               'rseq', 'set_robust_list', 'rt_sigprocmask', 'sched_yield', 'clock_gettime', 'exit', 'clock_nanosleep',
               'restart_syscall', 'setpriority'}
CALL = re.compile(r'^(?:\[pid +)?(\d+)(?:\] | +)(?:<\.\.\. )?(\w+)(\(| resumed)(.*)$')


@harness.ours_only
@unittest.skipIf(harness.INSTRUMENTED, 'sanitizers make calls of their own')
@unittest.skipIf(shutil.which('strace') is None, 'no strace')
class CallsTest(unittest.TestCase):

    def test_of_workers_under_all_requests(self):
        mapper = Mapper(args=['-workers', '2', '-d', '-d', '-d', '-relaxed_command_check'])
        self.addCleanup(mapper.close)
        mapper.start()
        workers = self.workers(mapper)
        trace = os.path.join(mapper.directory, 'trace')
        tracing = subprocess.Popen(['strace', '-f', '-o', trace, '-p', str(mapper.pid)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        tracing.stderr.readline()  # it is attached
        try:
            self.ask_all(mapper)
        finally:
            tracing.terminate()
            tracing.communicate()
        with open(trace) as lines:
            calls = [match.groups() for match in map(CALL.match, lines) if match and int(match[1]) in workers]
        names = {name for _, name, _, _ in calls}
        self.assertIn('accept4' if harness.LOOP == 'epoll' else 'io_uring_enter', names)
        self.assertIn('sendto', names)
        self.assertEqual(names - WAITS - OF_A_CONNECTION - OF_A_WORKER, set())
        # Nothing is written but wake-ups, which have 8 bytes.
        written = {rest for _, name, how, rest in calls if name == 'write' and how == '('}
        self.assertEqual({rest for rest in written if not re.search(r', 8(\)| <)', rest)}, set())

    def workers(self, mapper):
        found = {thread for thread in tracer.threads(mapper.pid) if tracer.name_of(mapper.pid, thread) == 'epmd-worker'}
        self.assertEqual(len(found), 2)
        return found

    def ask_all(self, mapper):
        for turn in range(30):
            name = b'node%d' % turn
            node, _ = mapper.register(name)
            self.assertIsNotNone(mapper.lookup(name))
            self.assertIsNone(mapper.lookup(b'nobody'))
            another, refusal = mapper.alive2(name)
            self.assertEqual(refusal[1:2], b'\x01')
            another.close()
            self.assertEqual([listed for listed, _ in mapper.names()], [name])
            mapper.request(b'd')
            mapper.request(b'garbage')
            slow = mapper.connect()
            slow.sendall(b'\0')
            time.sleep(0.01)
            slow.close()
            if turn % 2:
                self.assertEqual(mapper.request(b's' + name), b'STOPPED')
            node.close()
            mapper.wait_gone(name)


if __name__ == '__main__':
    unittest.main()
