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
import subprocess
import tempfile
import time
import unittest

import harness
from harness import HOST, seccomp
from harness.custody import CustodyCase
from harness.epmdctl import creations, status

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


# What an old kernel has not: Linux 4.18 (Enterprise Linux 8) and 4.19 (Debian 10) know none of these.
SINCE_4_19 = [number for name, number, _ in CALLS if name in (
    'close_range', 'faccessat2', 'io_uring_enter', 'io_uring_register', 'io_uring_setup', 'openat2', 'pidfd_open',
    'pidfd_send_signal', 'clone3')]


@harness.ours_only
class OldKernelTest(CustodyCase):
    """All that came after 4.18 refused at once: nothing that the README promises is lost."""

    def kept_on_old_kernel(self, **options):
        return self.kept(before_exec=lambda: seccomp.refuse_calls(SINCE_4_19, errno.ENOSYS), loop='auto', **options)

    def test_mapper_is_killed_and_upgraded(self):
        mapper = self.kept_on_old_kernel()
        self.register(mapper, 50)
        before = creations(mapper)
        for _ in range(3):
            served_by = mapper.mapper_pid()
            os.kill(served_by, signal.SIGKILL)
            harness.wait_until(lambda p=served_by: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
            self.check_kept(mapper, before)
            self.assertEqual(mapper.upgraded().returncode, 0)
            self.check_kept(mapper, before)
        self.assertEqual(mapper.stop(), 0)
        harness.wait_until(lambda: not mapper.family(), 'all ended')

    def test_keeper_is_killed_and_relieved(self):
        mapper = self.kept_on_old_kernel()
        self.register(mapper, 50)
        before = creations(mapper)
        served_by = mapper.mapper_pid()
        for _ in range(2):
            os.kill(mapper.pid, signal.SIGKILL)
            mapper.wait()
            mapper.start(answering=False)
            harness.wait_until(lambda: mapper.family() == {mapper.pid, served_by}, mapper.log)
            self.check_kept(mapper, before)
        # The new keeper is not its parent, and notices its end all the same.
        os.kill(served_by, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != served_by, 'another mapper')
        self.check_kept(mapper, before)

    def test_upgrade_that_fails(self):
        mapper = self.kept_on_old_kernel()
        self.register(mapper, 5)
        before = creations(mapper)
        for content in ('#!/bin/sh\nexit 3\n', '#!/bin/sh\nexec sleep 0.2\n'):
            done = mapper.upgraded(self.copy_of(mapper.directory, content))
            self.assertNotEqual(done.returncode, 0)
            self.check_kept(mapper, before)


MIB = 1 << 20
# Limits that cannot be raised: (name, value).
LIMITS = [
    ('AS', 64 * MIB), ('AS', 256 * MIB), ('CORE', 0), ('DATA', MIB), ('FSIZE', 4096), ('FSIZE', 65536),
    ('MEMLOCK', 0), ('MSGQUEUE', 0), ('NICE', 0), ('NOFILE', 4), ('NOFILE', 8), ('NOFILE', 16), ('NOFILE', 64), ('RSS', 0), ('RTPRIO', 0),
    ('SIGPENDING', 0), ('STACK', 131072), ('STACK', MIB),
]
USER = 61234  # nobody else's


@harness.ours_only
class LimitsTest(RequirementsCase):
    """Each limit tiny in turn."""

    def rows(self, hard):
        rows = {}
        for name, value in LIMITS:
            which = getattr(resource, 'RLIMIT_' + name)

            def limit(which=which, value=value):
                resource.setrlimit(which, (value, value if hard else resource.getrlimit(which)[1]))
            # What is tiny by a soft limit alone is raised.
            must_serve = not hard
            for daemon in (False, True):
                rows[f'{name} {value}{" -daemon" if daemon else ""}'] = (must_serve, limit, {'daemon': daemon})
        return rows

    def test_hard(self):
        self.all(self.rows(hard=True))

    def test_soft(self):
        self.all(self.rows(hard=False))

    @harness.as_root_only
    def test_processes(self):
        """The keeper is the last one that may be started."""
        def as_user():
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            os.setgid(USER)
            os.setuid(USER)
        self.all({f'NPROC 1{" -daemon" if daemon else ""}': (False, as_user, {'daemon': daemon}) for daemon in (False, True)})


# Of a stranger, that is of a process that has merely started this one: none of these means this process.
VARIABLES = {
    'ERL_EPMD_PORT': ('', '0', 'x', '4369 ', '99999'),
    'ERL_EPMD_ADDRESS': ('', '127.0.0.1', 'nowhere', ',,,'),
    'ERL_EPMD_RELAXED_COMMAND_CHECK': ('', '1'),
    'NOTIFY_SOCKET': ('', '/nowhere', '@nowhere', 'relative', '/' + 'x' * 200),
    'LISTEN_FDS': ('', '1', '-1', 'x', '999999999'),
    'LISTEN_PID': ('', '1', 'x'),
    'LISTEN_FDNAMES': ('', 'a:b:c'),
    'EVERMAP_KEEPER': ('', '3', '-1', 'x'),
    'EVERMAP_PREDECESSOR': ('3', 'x'),
    'EVERMAP_OFFERS_FILES': ('1',),
    'EVERMAP_WATCHER': ('1', 'x'),
    'EVERMAP_MAPPER': ('3', 'x'),
    'EVERMAP_MAPPER_PID': ('1', 'x'),
    'EVERMAP_IS_STRAY': ('1', 'x'),
    'EVERMAP_BINARY': ('/bin/false', 'x', ''),
    'RUNTIME_DIRECTORY': ('', '/nowhere', 'relative', '/tmp:/nowhere'),
    'SYSTEMD_EXEC_PID': ('', '1', 'x'),
    'XDG_RUNTIME_DIR': ('', '/nowhere', 'relative'),
    'EPMD_FAULTS': ('keeper:resumed=kill',),
    'LANG': ('xx_XX',), 'TZ': ('/nowhere',), 'PATH': ('',), 'HOME': ('',), 'TMPDIR': ('/nowhere',),
}


@harness.ours_only
class VariablesTest(RequirementsCase):
    """Each variable of the environment set by a stranger."""

    def test_each(self):
        rows = {}
        for name, values in VARIABLES.items():
            for value in values:
                # A port or an address that makes no sense is said.
                must_serve = name not in ('ERL_EPMD_PORT', 'ERL_EPMD_ADDRESS')
                for daemon in (False, True):
                    env = {name: value}
                    if name.startswith('EVERMAP_'):
                        env.update(LISTEN_FDS='1', LISTEN_PID='1')
                    rows[f'{name}={value[:20]!r}{" -daemon" if daemon else ""}'] = (must_serve, None, {'daemon': daemon, 'env': env})
        self.all(rows)

    def test_binary_of_a_stranger_is_not_executed(self):
        mapper = harness.Kept(env={'EVERMAP_BINARY': '/bin/false'})
        self.addCleanup(mapper.close)
        mapper.start()
        self.assertEqual(mapper.upgraded().returncode, 0)


def closed(*fds):
    def close():
        for fd in fds:
            os.close(fd)
    return close


def ignored(*signals):
    def ignore():
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
    return ignore


ALL_SIGNALS = [number for number in range(1, 65) if number not in (9, 19, 32, 33)]
INHERITED = {
    'SIGCHLD ignored': ignored(signal.SIGCHLD),
    'SIGPIPE ignored': ignored(signal.SIGPIPE),
    'all ignored': ignored(*ALL_SIGNALS),
    'all blocked': lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS),
    'alarm': lambda: signal.setitimer(signal.ITIMER_REAL, 0.5),
    'umask 777': lambda: os.umask(0o777),
    'umask 0': lambda: os.umask(0),
    'no standard input': closed(0),
    'no standard streams': closed(0, 1, 2),
    'directory removed': lambda: (os.chdir(tempfile.mkdtemp()), os.rmdir(os.getcwd())),
    'nice': lambda: os.nice(19),
    'CPU 1 s': lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1])),
}


@harness.ours_only
class InheritedStateTest(CustodyCase):
    """What a starter leaves behind changes nothing: not what is promised, and not the exit codes."""

    def test_each_is_put_right(self):
        for what, before in INHERITED.items():
            with self.subTest(what):
                mapper = self.kept(before_exec=before, logs='streams' not in what)
                self.register(mapper, 5)
                before_it = creations(mapper)
                if what == 'alarm':
                    time.sleep(0.6)
                self.assertEqual(os.stat(mapper.registry).st_mode & 0o777, 0o644)
                served_by = mapper.mapper_pid()
                os.kill(served_by, signal.SIGKILL)
                harness.wait_until(lambda p=served_by: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
                self.check_kept(mapper, before_it)
                self.assertEqual(mapper.upgraded().returncode, 0)
                self.check_kept(mapper, before_it)
                if 'streams' not in what:
                    self.assertIn('was ended by signal KILL', mapper.log())
                self.assertEqual(mapper.stop(), 0)
                harness.wait_until(lambda m=mapper: not m.family(), 'all ended')

    def test_exit_codes(self):
        """Of a mapper that cannot start: with SIGCHLD ignored its keeper could not tell."""
        for what, before in INHERITED.items():
            for args in ([], ['-daemon'], ['-no_keeper']):
                with self.subTest(what, args=args):
                    done = harness.run_epmd('-port', str(harness.free_port()), '-address', '192.0.2.77', *args, preexec_fn=before)
                    self.assertEqual(done.returncode, 1)
                    if 'streams' not in what:
                        harness.one_line(done)


@harness.ours_only
@harness.as_root_only
class NoProcTest(CustodyCase):
    """Where /proc is not mounted."""

    def test_kept(self):
        prefix = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o ro tmpfs /proc && exec "$@"', 'sh']
        mapper = self.kept(prefix=prefix)
        self.register(mapper, 20)
        before = creations(mapper)
        for _ in range(2):
            served_by = mapper.mapper_pid()
            os.kill(served_by, signal.SIGKILL)
            harness.wait_until(lambda p=served_by: mapper.mapper_pid() != p, 'another mapper')
            harness.wait_until(lambda: len(mapper.names()) == 20, 'it answers')
            self.check_kept(mapper, before)
        done = mapper.upgraded()
        self.assertEqual(done.returncode, 0, done)
        self.check_kept(mapper, before)

    def test_relative_program_and_daemon(self):
        """Without /proc/self/exe the program is executed by its name, which must not depend on the directory."""
        with tempfile.TemporaryDirectory() as directory:
            port = harness.free_port()
            command = ['./epmd', '-daemon', '-port', str(port), '-address', HOST, '-registry', os.path.join(directory, 'registry'),
                       '-pidfile', 'pid']
            done = subprocess.run(['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o ro tmpfs /proc && exec "$@"', 'sh', *command],
                                  cwd=os.path.dirname(harness.EPMD), capture_output=True, env=harness.clean_environment(),
                                  timeout=harness.PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 0, done)
            path = os.path.join(os.path.dirname(harness.EPMD), 'pid')
            with open(path) as file:
                keeper = int(file.read())
            self.assertEqual(harness.Client(port, HOST).names(), [])
            harness.end_process(keeper)
            harness.wait_until(lambda: not os.path.exists(path), 'its pid file is gone')


if __name__ == '__main__':
    unittest.main()
