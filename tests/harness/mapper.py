"""Mappers: one in the foreground, and one with a keeper."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile

from harness.environment import EPMD, LOOP, PATIENCE_S, STOCK_EPMD, TESTING_STOCK, clean_environment
from harness.epmdctl import epmdctl, status
from harness.network import free_port
from harness.process import command_line, process_exists, wait_for_logs, wait_until
from harness.wire import Client, HOST

class Mapper(Client):
    """A mapper in the foreground, on a free port and with a directory and a registry of its own.

    stock: the reference instead of the one under test: True, or the command of another one (other_references()). keeper: with a keeper, whose pid is then .pid. args: options beyond
    port, address, loop and registry. address: value of -address, None to listen on all. descriptors: its RLIMIT_NOFILE.
    directory: to use an existing one, which is then left alone. prefix: a command line to run it under (nsenter ...).
    before_exec: called in the new process. logs: False when it has nowhere to write its log.
    """

    def __init__(self, args=(), stock=False, port=None, address=HOST, descriptors=None, directory=None, env=None,
                 registry=None, prefix=(), host=HOST, loop=None, before_exec=None, keeper=False, logs=True):
        super().__init__(port or free_port(), host)
        self.is_stock = bool(stock) or TESTING_STOCK
        self.binary = STOCK_EPMD if stock else EPMD
        self._start = stock if isinstance(stock, list) else None
        self.directory = directory or tempfile.mkdtemp(prefix='evermap-test-')
        self._owns_directory = directory is None
        self.registry = registry or os.path.join(self.directory, 'registry')
        self.log_path = os.path.join(self.directory, f'log.{self.port}')
        self._args = list(args)
        self._keeper = keeper
        self._logs = logs
        self._address = address
        self._descriptors = descriptors
        self._env = env or {}
        self._prefix = list(prefix)
        self._loop = loop or LOOP
        self._before_exec = before_exec
        self._process = None
        self._log_begin = 0  # what it has said before is of an earlier process

    def command(self):
        command = [*self._prefix, *(self._start or [self.binary]), '-port', str(self.port)]
        if self._address is not None:
            command += ['-address', self._address]
        if not self.is_stock:
            command += ['-loop', self._loop, '-registry', self.registry]
            if not self._keeper:
                command.append('-no_keeper')
        return command + self._args

    @property
    def pid(self):
        return self._process.pid

    def log(self):
        """What it and the processes that it has started have said so far."""
        if self.alive():
            wait_for_logs(self.pid)
        with open(self.log_path, 'rb') as log:
            return log.read().decode('utf-8', 'replace')

    def start(self, answering=True):
        """Starts it and waits until it answers."""
        def limit():
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            wanted = self._descriptors or hard
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            if self._before_exec is not None:
                self._before_exec()

        with open(self.log_path, 'ab') as log:
            self._log_begin = os.fstat(log.fileno()).st_size
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env=clean_environment(**self._env), preexec_fn=limit)
        if answering:
            try:
                wait_until(self._answers, lambda: f'the mapper answers; it said: {self.log()!r}')
                # It answers before it says that it does. A daemon says so elsewhere.
                if self._logs and not self.is_stock and '-daemon' not in self._args:
                    wait_until(lambda: 'serves port' in self.log(), 'the mapper says that it serves')
            except BaseException:
                self.stop()
                raise
        return self

    def _answers(self):
        if self._process.poll() is not None:
            raise AssertionError(f'the mapper ended with {self._process.returncode}: {self.log()!r}')
        try:
            # Nothing is sent by one that is told to refuse it, as a test may want, and by one that is being killed.
            return self.request(b'n') or 'serves port' in self.log()[self._log_begin:]
        except OSError:
            return False

    def alive(self):
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_s=PATIENCE_S):
        """Waits for its end and returns its exit code."""
        return self._process.wait(timeout_s)

    def stop(self, signal_number=signal.SIGTERM):
        """Ends it and returns its exit code. Its registry stays until close()."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal_number)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f'the mapper did not end on signal {signal_number}; '
                                     f'it said: {self.log()!r}') from None
        code = self._process.returncode
        self._process = None
        log = self.log()
        if 'Sanitizer' in log:
            raise AssertionError(log)
        return code

    def close(self):
        try:
            self.stop()
        finally:
            if self._owns_directory:
                shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


def run_epmd(*args, port=None, env=None, binary=None, timeout_s=PATIENCE_S, **options):
    """Runs the mapper's command line to its end; returns a CompletedProcess with bytes."""
    command = [binary or EPMD]
    if port is not None:
        command += ['-port', str(port)]
    return subprocess.run(command + list(args), stdin=subprocess.DEVNULL, capture_output=True,
                          env=clean_environment(**(env or {})), timeout=timeout_s, check=False, **options)


def one_line(done):
    """The single line that a mapper that does not start says on standard error; fails when there are more or none."""
    lines = done.stderr.decode('utf-8', 'replace').strip('\n').split('\n')
    if len(lines) != 1 or not lines[0]:
        raise AssertionError(f'not one line on standard error: {done}')
    return lines[0]


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
                self.registry.encode() in command_line(int(entry)) and process_exists(int(entry))}

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
            wait_until(self.all_killed, 'all are killed')
