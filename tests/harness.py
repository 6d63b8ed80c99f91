"""What the integration tests share: mappers, clients on a raw socket, real nodes, and their cleaning up.

    with harness.Mapper(args=['-workers', '4']) as mapper:     # a free port, a registry and a directory of its own
        node, creation = mapper.register(b'rabbit', port=5000)
        assert mapper.lookup(b'rabbit').port == 5000
        node.close()

The environment says what is tested:

    EPMD           the mapper under test (default: the one in the build directory MESON_BUILD_ROOT)
    STOCK_EPMD     the reference, Erlang/OTP's own (default: behind /usr/bin/epmd, or below /usr/lib/erlang)
    EVERMAP_LOOP   io_uring, epoll or auto: the event loop of the mapper under test (default auto)
    EVERMAP_TEST_SCALE   percent of the rounds, nodes and upgrades that a test is made for (default 100)

Everything a test starts is ended by its pid, and everything it writes is in a temporary directory.
"""

import collections
import contextlib
import ctypes
import glob
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

HOST = '127.0.0.1'
LOOP = os.environ.get('EVERMAP_LOOP', 'auto')
SCALE_PERCENT = int(os.environ.get('EVERMAP_TEST_SCALE', '100'))

# How long anything that has to happen may take before a test is called failed. Nothing waits that long when all is
# well; it is generous because sanitizer builds on a busy machine are slow.
PATIENCE_S = 30.0
TCP_ESTABLISHED = 1  # of the kernel's states of a TCP socket

# Ports are taken from below the kernel's range for outgoing connections, so that none of ours is in the way.
PORT_FIRST = 20000
PORT_LAST = 32000

NODE_TYPE_NORMAL = 77
PROTOCOL_TCP4 = 0
VERSION_HIGHEST = 6
VERSION_LOWEST = 5
REFUSED_CREATION = 99
BODY_SIZE_MAX = 3057
NAME_SIZE_MAX = 1020
NAME_CODE_POINTS_MAX = 255


def scaled(name, count, least=1):
    """The number `name` of the environment, by default `count` as far as this run goes, but `least` at least."""
    return int(os.environ.get(name, max(least, count * SCALE_PERCENT // 100)))


def _default_epmd():
    root = os.environ.get('MESON_BUILD_ROOT')
    return os.path.join(root, 'daemon', 'epmd') if root else shutil.which('epmd')


def _default_stock():
    behind = os.path.realpath('/usr/bin/epmd')
    if '/erlang/' in behind and os.path.exists(behind):
        return behind
    found = sorted(glob.glob('/usr/lib/erlang/erts-*/bin/epmd'))
    return found[-1] if found else None


STOCK_EPMD = os.environ.get('STOCK_EPMD') or _default_stock()
EPMD = os.path.realpath(os.environ.get('EPMD') or _default_epmd() or 'epmd')
TESTING_STOCK = STOCK_EPMD is not None and os.path.realpath(STOCK_EPMD) == EPMD


def _instrumented(path):
    try:
        with open(path, 'rb') as binary:
            content = binary.read()
    except OSError:
        return False
    return b'__asan_init' in content or b'__tsan_init' in content


# True for sanitizer builds, whose memory and speed say nothing.
INSTRUMENTED = _instrumented(EPMD)

ours_only = unittest.skipIf(TESTING_STOCK, 'concerns what the stock epmd does not have')
as_root_only = unittest.skipUnless(os.geteuid() == 0, 'needs root')


def raise_descriptor_limit():
    """Gives this process as many file descriptors as the machine allows; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def clean_environment(**changes):
    """The environment without what would reach into a mapper or a node from outside."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(('ERL_', 'ERTS_', 'RELEASE_', 'ELIXIR_ERL', 'LISTEN_')) and
           key not in ('NOTIFY_SOCKET', 'RUNTIME_DIRECTORY', 'JOURNAL_STREAM')}
    env.update({key: str(value) for key, value in changes.items()})
    # What is preloaded into all (allow_list.py) is, and starts after what a test wants of its own.
    if 'LD_PRELOAD' in changes and 'LD_PRELOAD' in os.environ:
        env['LD_PRELOAD'] = os.environ['LD_PRELOAD'] + ':' + env['LD_PRELOAD']
    return env


def free_port():
    """A port nobody listens on, on any address."""
    for _ in range(1000):
        port = random.SystemRandom().randint(PORT_FIRST, PORT_LAST)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(('0.0.0.0', port))
            with contextlib.suppress(OSError):  # a host without IPv6
                with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe6:
                    probe6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe6.bind(('::1', port))
        except OSError:
            continue
        return port
    raise AssertionError('no free port found')


def wait_until(condition, what, timeout_s=PATIENCE_S):
    """Calls condition() until it returns something true, and returns that; fails with `what` after timeout_s."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0005
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {timeout_s} s: {what() if callable(what) else what}')
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def listeners(port):
    """Pids of the processes that hold a socket listening on `port`."""
    inodes = set()
    for table in ('/proc/net/tcp', '/proc/net/tcp6'):
        with contextlib.suppress(OSError), open(table) as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == '0A' and int(fields[1].rsplit(':', 1)[1], 16) == port:
                    inodes.add(f'socket:[{fields[9]}]')
    pids = set()
    for link in glob.glob('/proc/[0-9]*/fd/*'):
        with contextlib.suppress(OSError):
            if os.readlink(link) in inodes:
                pids.add(int(link.split('/')[2]))
    return pids


def process_exists(pid):
    """False also for a zombie."""
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] not in ('Z', 'X')
    except OSError:
        return False


def end_process(pid):
    """Ends a process that is not our child."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not process_exists(pid), f'end of process {pid}', 10)
            return
    raise AssertionError(f'process {pid} does not end')


def cpu_seconds(pids):
    """What processes have used, together."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as file:
            ticks += sum(map(int, file.read().rsplit(')', 1)[1].split()[11:13]))
    return ticks / os.sysconf('SC_CLK_TCK')


def resident_kib(pid):
    with open(f'/proc/{pid}/status') as status:
        return int(re.search(r'^VmRSS:\s+(\d+) kB', status.read(), re.M).group(1))


# ---------------------------------------------------------------------------------------------- the wire

def frame(body):
    return struct.pack('>H', len(body)) + body


def alive2_body(name, port=1234, node_type=NODE_TYPE_NORMAL, protocol=PROTOCOL_TCP4, highest=VERSION_HIGHEST,
                lowest=VERSION_LOWEST, extra=b''):
    return (b'x' + struct.pack('>HBBHHH', port, node_type, protocol, highest, lowest, len(name)) + name +
            struct.pack('>H', len(extra)) + extra)


def receive_all(connection):
    """Everything until the other side closes. A reset counts as a close: it depends on timing whether one comes."""
    received = bytearray()
    while True:
        try:
            chunk = connection.recv(1 << 16)
        except ConnectionResetError:
            return bytes(received)
        if not chunk:
            return bytes(received)
        received += chunk


def receive_exactly(connection, size):
    """`size` bytes, or fewer if the other side closes before."""
    received = b''
    while len(received) < size:
        try:
            chunk = connection.recv(size - len(received))
        except ConnectionResetError:
            break
        if not chunk:
            break
        received += chunk
    return received


def receive_alive2_reply(connection):
    """The bytes of one ALIVE2 reply; b'' when the connection was closed without."""
    first = receive_exactly(connection, 1)
    if first not in (b'v', b'y'):
        return first
    return first + receive_exactly(connection, 5 if first == b'v' else 3)


def alive2_result(reply):
    """(result, creation) of the bytes of an ALIVE2 reply."""
    if len(reply) == 6 and reply[:1] == b'v':
        return struct.unpack('>xBI', reply)
    if len(reply) == 4 and reply[:1] == b'y':
        return struct.unpack('>xBH', reply)
    raise AssertionError(f'not a reply to ALIVE2: {reply!r}')


def all_read(connection):
    """True when the process at the other end of an IPv4 connection, on this host, has read all that was sent, or closed."""
    # A socket that its process has closed may be gone from the table: there is a limit to those.
    if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
        return True
    own, peer = connection.getsockname()[1], connection.getpeername()[1]
    with open('/proc/net/tcp') as lines:
        for line in list(lines)[1:]:
            fields = line.split()
            if [int(fields[i].rsplit(':', 1)[1], 16) for i in (1, 2)] == [peer, own]:
                return int(fields[4].split(':')[1], 16) == 0
    return False


def reset(connection):
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()


def sees_close(connection, timeout_s=PATIENCE_S):
    """True once the other side has closed and everything it sent has been read."""
    connection.settimeout(timeout_s)
    try:
        receive_all(connection)
    except TimeoutError:
        return False
    return True


Node = collections.namedtuple('Node', 'port node_type protocol highest lowest name extra')


class Client:
    """Speaks to the mapper on (host, port). Every request goes over a connection of its own."""

    def __init__(self, port, host=HOST, source=None):
        self.port = port
        self.host = host
        self.source = source

    def connect(self, timeout_s=PATIENCE_S):
        connection = socket.create_connection((self.host, self.port), timeout=timeout_s,
                                              source_address=(self.source, 0) if self.source else None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def raw(self, *chunks, half_close=False):
        """Sends the chunks one by one and returns all that comes until the mapper closes."""
        with self.connect() as connection:
            try:
                for chunk in chunks:
                    connection.sendall(chunk)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError, OSError):
                pass  # closed before all was sent; what was replied is still there to be read
            return receive_all(connection)

    def request(self, body, half_close=False):
        return self.raw(frame(body), half_close=half_close)

    def alive2(self, name, **description):
        """Returns the connection and the bytes of the reply. Keep the connection to stay registered."""
        connection = self.connect()
        try:
            connection.sendall(frame(alive2_body(name, **description)))
            return connection, receive_alive2_reply(connection)
        except BaseException:
            connection.close()
            raise

    def register(self, name, **description):
        """Registers, and returns the connection and the creation; fails the test when refused."""
        connection, reply = self.alive2(name, **description)
        if reply == b'' or alive2_result(reply)[0] != 0:
            connection.close()
            raise AssertionError(f'{name!r} was refused: {reply!r}')
        return connection, alive2_result(reply)[1]

    def lookup(self, name):
        """The Node, or None when the name is unknown."""
        reply = self.request(b'z' + name)
        if reply == b'w\x01':
            return None
        if reply[:2] != b'w\x00' or len(reply) < 14:
            raise AssertionError(f'not a reply to PORT2 for {name!r}: {reply!r}')
        port, node_type, protocol, highest, lowest, name_size = struct.unpack('>HBBHHH', reply[2:12])
        rest = reply[12 + name_size:]
        extra_size, = struct.unpack('>H', rest[:2])
        if len(rest) != 2 + extra_size:
            raise AssertionError(f'lengths in a reply to PORT2 do not fit: {reply!r}')
        return Node(port, node_type, protocol, highest, lowest, reply[12:12 + name_size], rest[2:])

    def names(self):
        """[(name, port)] in the mapper's order."""
        reply = self.request(b'n')
        self._check_port(reply)
        entries = re.findall(rb'name (.*?) at port (\d+)\n', reply[4:], re.S)
        if b''.join(b'name %b at port %b\n' % entry for entry in entries) != reply[4:]:
            raise AssertionError(f'not a reply to NAMES: {reply!r}')
        return [(name, int(port)) for name, port in entries]

    def dump(self):
        """The lines of DUMP, without their NUL."""
        reply = self.request(b'd')
        self._check_port(reply)
        return reply[4:].split(b'\x00')[:-1]

    def kill(self):
        return self.request(b'k')

    def stop_node(self, name):
        return self.request(b's' + name)

    def wait_registered(self, name):
        return wait_until(lambda: self.lookup(name), f'{name!r} is registered')

    def wait_gone(self, name):
        wait_until(lambda: self.lookup(name) is None, f'{name!r} is not registered')

    def _check_port(self, reply):
        if len(reply) < 4 or struct.unpack('>I', reply[:4])[0] != self.port:
            raise AssertionError(f'reply does not start with port {self.port}: {reply[:40]!r}')


# ---------------------------------------------------------------------------------------------- the mapper

class Mapper(Client):
    """A mapper in the foreground, on a free port and with a directory and a registry of its own.

    stock: the reference instead of the one under test. keeper: with a keeper, whose pid is then .pid. args: options beyond port, address, loop and registry.
    address: value of -address, None to listen on all. descriptors: its RLIMIT_NOFILE. directory: to use an existing one,
    which is then left alone. prefix: a command line to run it under (nsenter ...). before_exec: called in the new process.
    """

    def __init__(self, args=(), stock=False, port=None, address=HOST, descriptors=None, directory=None, env=None,
                 registry=None, prefix=(), host=HOST, loop=None, before_exec=None, keeper=False):
        super().__init__(port or free_port(), host)
        self.is_stock = stock or TESTING_STOCK
        self.binary = STOCK_EPMD if stock else EPMD
        self.directory = directory or tempfile.mkdtemp(prefix='evermap-test-')
        self._owns_directory = directory is None
        self.registry = registry or os.path.join(self.directory, 'registry')
        self.log_path = os.path.join(self.directory, f'log.{self.port}')
        self._args = list(args)
        self._keeper = keeper
        self._address = address
        self._descriptors = descriptors
        self._env = env or {}
        self._prefix = list(prefix)
        self._loop = loop or LOOP
        self._before_exec = before_exec
        self._process = None

    def command(self):
        command = [*self._prefix, self.binary, '-port', str(self.port)]
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
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env=clean_environment(**self._env), preexec_fn=limit)
        if answering:
            try:
                wait_until(self._answers, lambda: f'the mapper answers; it said: {self.log()!r}')
            except BaseException:
                self.stop()
                raise
        return self

    def _answers(self):
        if self._process.poll() is not None:
            raise AssertionError(f'the mapper ended with {self._process.returncode}: {self.log()!r}')
        try:
            return self.request(b'n')
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


# ---------------------------------------------------------------------------------------------- real nodes

# Reads one line of Erlang expressions at a time, evaluates them and prints the value on a line of its own.
_ERL_SERVER = '''
F = fun Loop() ->
  case io:get_line("") of
    eof -> halt(0);
    Line ->
      {ok, Tokens, _} = erl_scan:string(Line),
      {ok, Expressions} = erl_parse:parse_exprs(Tokens),
      Value = try {value, V, _} = erl_eval:exprs(Expressions, []), V catch C:R -> {C, R} end,
      io:format("~n=> ~0p~n", [Value]),
      Loop()
  end
end,
F().
'''


class ErlangNode:
    """`erl -sname NAME` or `iex --sname NAME`, with its own HOME and a cookie shared by the test's nodes.

    Unless `epmd_command` is given the node starts no mapper by itself: it finds the one on epmd_port or none.
    """

    COOKIE = 'evermaptest'

    def __init__(self, name, epmd_port, directory, shell='erl', epmd_command=None, env=None):
        self.name = name
        self._output = b''
        home = os.path.join(directory, 'home-' + name.split('@')[0])
        os.makedirs(home, exist_ok=True)
        self._log = open(os.path.join(home, 'stderr'), 'ab')
        environment = clean_environment(HOME=home, XDG_CONFIG_HOME=home, TERM='dumb', LC_ALL='C.UTF-8', **(env or {}))
        if epmd_port is not None:
            environment['ERL_EPMD_PORT'] = str(epmd_port)
        start = ['-epmd', epmd_command] if epmd_command else ['-start_epmd', 'false']
        if shell == 'erl':
            command = ['erl', '-noshell', '-sname', name, '-setcookie', self.COOKIE, *start, '-eval', _ERL_SERVER]
        else:
            command = ['iex', '--sname', name, '--cookie', self.COOKIE, '--dot-iex', '', '--erl', ' '.join(start)]
        self._shell = shell
        self._count = 0
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                                         env=environment, cwd=home, start_new_session=True)

    @property
    def pid(self):
        return self._process.pid

    def evaluate(self, expression, timeout_s=PATIENCE_S):
        """Sends one expression, in the shell's own language and on one line, and returns the value as text."""
        self._count += 1
        if self._shell == 'erl':
            line, marker = expression + '.\n', b'\n=> '
        else:
            tag = f'=>{self._count} '
            # The tag is put together at run time: the shell may echo its input.
            line = f'IO.puts("\\n=" <> ">{self._count} " <> inspect({expression}, limit: :infinity))\n'
            marker = b'\n' + tag.encode()
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            start = self._output.find(marker)
            end = self._output.find(b'\n', start + len(marker)) if start >= 0 else -1
            if end >= 0:
                value = self._output[start + len(marker):end].decode()
                self._output = self._output[end:]
                return value
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b''
            if not chunk:
                raise AssertionError(f'node {self.name} did not answer {expression!r}; it said {self._output!r} and '
                                     f'{self.stderr()!r}')
            self._output += chunk

    def stderr(self):
        with open(self._log.name, 'rb') as log:
            return log.read().decode('utf-8', 'replace')

    def halt(self):
        """Lets the node end by itself."""
        self._process.stdin.write(b'halt().\n' if self._shell == 'erl' else b'System.halt(0)\n')
        self._process.stdin.flush()
        self._process.wait(PATIENCE_S)

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def close(self):
        if self._process.poll() is None:
            # iex is a script around erl; both are in a session that this process started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


have_erlang = unittest.skipUnless(shutil.which('erl'), 'no erl here')
have_elixir = unittest.skipUnless(shutil.which('iex'), 'no iex here')


# ---------------------------------------------------------------------------------------------- a network of two hosts

_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def in_network_of(pid):
    """Sockets opened and programs started inside `with` belong to the network of that process, and stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
    there = os.open(f'/proc/{pid}/ns/net', os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET) != 0:
            raise unittest.SkipTest('setns: ' + os.strerror(ctypes.get_errno()))
        yield
    finally:
        # A thread that stayed there would take all later tests along.
        if libc.setns(home, _CLONE_NEWNET) != 0:
            os._exit(70)
        os.close(home)
        os.close(there)


class TwoHosts:
    """Two network namespaces joined by a pair of virtual cables: somebody who is not local. Needs root.

    The first host has .server_address, the second .client_address.
    """

    server_address = '10.231.77.1'
    client_address = '10.231.77.2'

    def __init__(self):
        self._holders = []
        try:
            for _ in range(2):
                holder = subprocess.Popen(['unshare', '-n', 'sleep', '3600'], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                self._holders.append(holder)
            own = os.readlink('/proc/self/ns/net')
            for holder in self._holders:
                wait_until(lambda h=holder: h.poll() is not None or os.readlink(f'/proc/{h.pid}/ns/net') != own,
                           'a network namespace', 10)
                if holder.poll() is not None:
                    raise unittest.SkipTest('no network namespaces here: ' + holder.stderr.read().decode().strip())
            server, client = (str(holder.pid) for holder in self._holders)
            self._ip(server, 'link', 'add', 'cable0', 'type', 'veth', 'peer', 'name', 'cable1', 'netns', client)
            self._ip(server, 'address', 'add', self.server_address + '/24', 'dev', 'cable0')
            self._ip(client, 'address', 'add', self.client_address + '/24', 'dev', 'cable1')
            for pid, cable in ((server, 'cable0'), (client, 'cable1')):
                self._ip(pid, 'link', 'set', cable, 'up')
                self._ip(pid, 'link', 'set', 'lo', 'up')
        except BaseException:
            self.close()
            raise

    def _ip(self, pid, *args):
        done = subprocess.run(['nsenter', '-t', pid, '-n', 'ip', *args], capture_output=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest('cannot join two network namespaces: ' + done.stderr.decode().strip())

    def add_ipv6(self, server_address, client_address):
        for holder, address, cable in zip(self._holders, (server_address, client_address), ('cable0', 'cable1')):
            self._ip(str(holder.pid), 'address', 'add', address + '/64', 'dev', cable, 'nodad')

    @property
    def server_prefix(self):
        """What to put before a command to run it on the first host."""
        return ['nsenter', '-t', str(self._holders[0].pid), '-n', '--']

    def on_server(self):
        """Sockets opened inside `with` belong to the first host, and stay there."""
        return in_network_of(self._holders[0].pid)

    def on_client(self):
        return in_network_of(self._holders[1].pid)

    def close(self):
        for holder in self._holders:
            if holder.poll() is None:
                holder.kill()
            holder.wait()
            holder.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
