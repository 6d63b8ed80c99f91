"""Nothing taken for granted: whatever a machine lacks, the mapper serves, or says in one line why it does not.

docs/requirements.md is the table for people; CALLS, LIMITS and VARIABLES below are what it was made from.
"""

import concurrent.futures
import contextlib
import errno
import os
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
from harness import HOST, seccomp

AT_A_TIME = 6
PATIENCE_S = 10

# System calls of x86-64 of the mapper's start, of the keeper and of requests: (name, number). What every program's loader
# and C library need before main() is left out: execve, mmap, openat, read, close, fstat, exit_group and their like.
# serves: it must serve without. Else it may also say why not.
CALLS = [
    # name, number, it must serve
    ('accept4', 288, False), ('access', 21, True), ('bind', 49, False), ('chdir', 80, False), ('close_range', 436, True),
    ('connect', 42, True), ('copy_file_range', 326, True), ('dup', 32, False), ('dup2', 33, False), ('epoll_create1', 291, False),
    ('epoll_ctl', 233, False), ('epoll_wait', 232, False), ('eventfd2', 290, False), ('faccessat2', 439, True),
    ('fallocate', 285, True), ('fchmod', 91, True), ('fcntl', 72, False), ('ftruncate', 77, True),
    ('getcwd', 79, True), ('getdents64', 217, True), ('geteuid', 107, False), ('getpeername', 52, False), ('getpid', 39, False),
    ('getppid', 110, True), ('getrandom', 318, True), ('getsockname', 51, True), ('getsockopt', 55, False),
    ('io_uring_enter', 426, True), ('io_uring_register', 427, True), ('io_uring_setup', 425, True), ('kill', 62, True),
    ('linkat', 265, True), ('listen', 50, False), ('lseek', 8, True), ('madvise', 28, True), ('memfd_create', 319, True),
    ('mkdir', 83, True), ('openat2', 437, True), ('pidfd_open', 434, True), ('pidfd_send_signal', 424, True), ('pipe2', 293, False),
    ('poll', 7, False), ('prctl', 157, True), ('pwritev2', 328, True), ('readlink', 89, True), ('recvfrom', 45, False),
    ('recvmsg', 47, False), ('renameat2', 316, True), ('rt_sigaction', 13, True), ('rt_sigprocmask', 14, False),
    ('sched_getaffinity', 204, True), ('sendmsg', 46, False), ('sendto', 44, False), ('setitimer', 38, True),
    ('setsid', 112, False), ('setsockopt', 54, False), ('shutdown', 48, False), ('signalfd4', 289, False), ('socket', 41, False),
    ('socketpair', 53, False), ('statx', 332, True), ('timerfd_create', 283, True), ('timerfd_settime', 286, True),
    ('umask', 95, True), ('unlink', 87, True), ('unlinkat', 263, True), ('wait4', 61, False),
    ('set_robust_list', 273, True), ('rseq', 334, True), ('prlimit64', 302, True),
]
ERRORS = (errno.ENOSYS, errno.EPERM, errno.EINVAL)


class Attempt:
    """One start of a mapper with a keeper, and what came of it."""

    def __init__(self, before, args=(), daemon=False, env=None):
        self.directory = tempfile.mkdtemp(prefix='evermap-require-')
        self.port = harness.free_port()
        self.client = harness.Client(self.port, HOST)
        self.command = [harness.EPMD, '-port', str(self.port), '-address', HOST, '-registry',
                        os.path.join(self.directory, 'registry'), *args, *(['-daemon'] if daemon else [])]
        self.daemon = daemon
        self.log_path = os.path.join(self.directory, 'log')
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=before,
                                            env=harness.clean_environment(**(env or {})))

    def log(self):
        with open(self.log_path, errors='replace') as log:
            return log.read().strip()

    def serves(self):
        """Registers a node and finds it."""
        with contextlib.suppress(OSError, ConnectionError, AssertionError, ValueError):
            connection, reply = self.client.alive2(b'node', port=4711)
            with connection:
                connection.settimeout(2)
                if not reply:
                    return False
                found = self.client.lookup(b'node')
                return found is not None and found.port == 4711
        return False

    def family(self):
        marker = self.directory.encode()
        return [int(entry) for entry in os.listdir('/proc')
                if entry.isdigit() and any(marker in argument for argument in harness.process.command_line(int(entry)))]

    def outcome(self):
        """None when all is well: it serves, or ended with a code that is not 0 and a line that says why."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            code = self.process.poll()
            if code is not None and (not self.daemon or code != 0):
                lines = self.log().splitlines()
                if code <= 0 or code == 127:
                    return f'ended with {code}: {lines}'
                return 'says: ' + lines[-1] if lines else f'ended with {code} without a word'
            # -daemon has returned, or is about to: who returns with 0 serves.
            if (code == 0 or not self.daemon) and self.serves():
                return 'serves'
            if self.daemon and code == 0:
                return f'-daemon ended with 0, and nothing serves: {self.log()}'
            time.sleep(0.02)
        return f'neither serves nor ends: {self.log()[-500:]}'

    def close(self):
        for _ in range(100):
            family = self.family()
            if not family and self.process.poll() is not None:
                break
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.02)
        self.process.wait(PATIENCE_S)
        shutil.rmtree(self.directory, ignore_errors=True)


def attempt(before, **options):
    tried = Attempt(before, **options)
    try:
        return tried.outcome()
    finally:
        tried.close()


class RequirementsCase(unittest.TestCase):

    def all(self, rows):
        """rows: {what: (must serve, before, options)}. Tries each, and complains of all that are not well."""
        wrong = []
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = {pool.submit(attempt, before, **options): (what, must_serve)
                        for what, (must_serve, before, options) in rows.items()}
            for done in concurrent.futures.as_completed(outcomes):
                what, must_serve = outcomes[done]
                outcome = done.result()
                if outcome != 'serves' and (must_serve or not outcome.startswith('says: ')):
                    wrong.append(f'{what}: {outcome}')
                if os.environ.get('EVERMAP_SHOW'):
                    print(f'{what:40} {outcome}', flush=True)
        self.assertEqual(sorted(wrong), [], '\n' + '\n'.join(sorted(wrong)))


@harness.ours_only
class CallsTest(RequirementsCase):
    """Each system call refused in turn."""

    def rows(self, daemon):
        rows = {}
        for name, number, must_serve in CALLS:
            for error in ERRORS:
                rows[f'{name} {errno.errorcode[error]}{" -daemon" if daemon else ""}'] = (
                    must_serve, lambda n=number, e=error: seccomp.refuse_calls([n], e), {'daemon': daemon})
        return rows

    def test_foreground(self):
        self.all(self.rows(False))

    def test_daemon(self):
        self.all(self.rows(True))


if __name__ == '__main__':
    unittest.main()
