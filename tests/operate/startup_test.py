"""How a mapper starts, refuses to start, detaches, takes sockets from systemd and ends."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from harness import Kept, Mapper, one_line, seccomp
from harness.epmdctl import status
from harness.process import command_line, process_exists

UNBOUND_ADDRESS = '192.0.2.77'  # of the block for documentation (RFC 5737)
NOBODY = 65534
MAGIC_OFFSET = 0
LAYOUT_VERSION_OFFSET = 8


def fingerprint(path):
    """All of a file that must not change."""
    status = os.lstat(path)
    content = None
    if stat.S_ISREG(status.st_mode):
        with open(path, 'rb') as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        content = sorted(os.listdir(path))
    return status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, content


class TemporaryDirectoryTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-start-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.registry = os.path.join(self.directory, 'registry')

    def start_in_vain(self, *args, registry=None, **options):
        """Starts a mapper that must not start; returns its one line."""
        args = ['-address', '127.0.0.1', *args] if '-address' not in args else list(args)
        if not harness.TESTING_STOCK:
            args = ['-loop', harness.LOOP, '-registry', registry or self.registry, *args]
        port = harness.free_port()
        try:
            # The port first, so that it can be overruled.
            done = harness.run_epmd('-port', str(port), *args, timeout_s=10, **options)
        except subprocess.TimeoutExpired:
            self.fail(f'it started (or hangs): {args}')
        self.assertEqual(done.returncode, 1, done)
        self.assertEqual(done.stdout, b'')
        self.assertEqual(harness.listeners(port), set())
        return one_line(done)


@harness.ours_only
class BadOptionTest(TemporaryDirectoryTest):

    def test_bad_options(self):
        for args in (['-nonsense'], ['nonsense'], ['--port', '4369'], ['-port', 'abc'], ['-port', '70000'], ['-port', '-1'],
                     ['-port', '4369x'], ['-port', ''], ['-packet_timeout', 'x'], ['-packet_timeout', '-1'],
                     ['-loop', 'kqueue'], ['-loop', ''], ['-workers', '0'], ['-workers', '-1'], ['-workers', 'x'],
                     ['-workers', '99999'], ['-workers', '99999999999999999999'], ['-capacity', '0'], ['-capacity', 'x'],
                     ['-capacity', '99999999999'], ['-delay_accept', 'x'], ['-delay_write', 'x']):
            with self.subTest(args=args):
                line = self.start_in_vain(*args)
                self.assertIn(args[0], line)
                self.assertFalse(os.path.exists(self.registry))

    def test_missing_values(self):
        for option in ('-port', '-address', '-packet_timeout', '-delay_accept', '-delay_write', '-loop', '-workers', '-registry',
                       '-capacity'):
            with self.subTest(option=option):
                done = harness.run_epmd(option, timeout_s=10)
                self.assertEqual((done.returncode, done.stdout), (1, b''), done)
                self.assertIn(option, one_line(done))

    def test_bad_environment(self):
        for name, value in (('ERL_EPMD_PORT', 'abc'), ('ERL_EPMD_PORT', '70000'), ('ERL_EPMD_ADDRESS', 'nonsense')):
            with self.subTest(name=name, value=value):
                try:
                    done = harness.run_epmd('-loop', harness.LOOP, '-registry', self.registry,
                                            env={'ERL_EPMD_PORT': harness.free_port(), name: value}, timeout_s=10)
                except subprocess.TimeoutExpired:
                    self.fail('it started')
                self.assertEqual((done.returncode, done.stdout), (1, b''), done)
                self.assertRegex(one_line(done), f'{name}|{value}')


@harness.ours_only
class AddressTest(TemporaryDirectoryTest):

    def test_address_that_cannot_be_bound(self):
        for addresses in (UNBOUND_ADDRESS, f'127.0.0.1,{UNBOUND_ADDRESS}', '2001:db8::77'):
            with self.subTest(addresses=addresses):
                line = self.start_in_vain('-address', addresses)
                self.assertIn(addresses.split(',')[-1], line)

    def test_address_that_is_none(self):
        for addresses in ('nonsense', '127.0.0', '127.0.0.256', '::1::', '127.0.0.1;127.0.0.2'):
            with self.subTest(addresses=addresses):
                self.start_in_vain('-address', addresses)

    def test_address_that_cannot_be_bound_leaves_the_registry(self):
        with Mapper(directory=self.directory, registry=self.registry, args=['-capacity', '64']) as mapper:
            node, creation = mapper.register(b'node')
            node.close()
            mapper.wait_gone(b'node')
        before = fingerprint(self.registry)
        self.start_in_vain('-address', UNBOUND_ADDRESS)
        self.assertEqual(fingerprint(self.registry), before)

    @harness.as_root_only
    def test_port_below_1024_without_permission(self):
        registry_directory = os.path.join(self.directory, 'of-nobody')
        os.mkdir(registry_directory)
        os.chown(registry_directory, NOBODY, NOBODY)
        os.chmod(self.directory, 0o755)
        with open('/proc/sys/net/ipv4/ip_unprivileged_port_start') as first:
            if int(first.read()) <= 1023:
                self.skipTest('ports below 1024 need no permission here')
        line = self.start_in_vain('-port', '1023', registry=os.path.join(registry_directory, 'registry'), user=NOBODY,
                                  group=NOBODY, extra_groups=[])
        self.assertIn('1023', line)


@harness.ours_only
class BadRegistryTest(TemporaryDirectoryTest):
    """A registry file that cannot be used: one line that names it, exit 1, and it is as it was."""

    def setUp(self):
        super().setUp()
        with Mapper(directory=self.directory, registry=self.registry, args=['-capacity', '64']) as mapper:
            for name in (b'one', b'two'):
                node, _ = mapper.register(name)
                node.close()
                mapper.wait_gone(name)

    def refused(self, pattern, path=None):
        path = path or self.registry
        before = fingerprint(path)
        beside = sorted(os.listdir(self.directory))
        line = self.start_in_vain(registry=path)
        self.assertIn(path, line)
        self.assertRegex(line, re.compile(pattern, re.I))
        self.assertEqual(fingerprint(path), before)
        self.assertEqual(sorted(os.listdir(self.directory)), beside)

    def overwrite(self, offset, data):
        with open(self.registry, 'r+b') as file:
            file.seek(offset)
            file.write(data)

    def read(self, offset, size):
        with open(self.registry, 'rb') as file:
            file.seek(offset)
            return file.read(size)

    def test_good_one(self):
        """What the other tests spoil is good before."""
        with Mapper(directory=self.directory, registry=self.registry) as mapper:
            self.assertEqual(len(mapper.dump()), 2)

    @harness.as_root_only
    def test_owner(self):
        os.chown(self.registry, NOBODY, NOBODY)
        self.refused('own')

    @harness.as_root_only
    def test_owner_is_root_and_we_are_not(self):
        os.chmod(self.directory, 0o777)
        before = fingerprint(self.registry)
        line = self.start_in_vain(user=NOBODY, group=NOBODY, extra_groups=[])
        self.assertIn(self.registry, line)
        self.assertEqual(fingerprint(self.registry), before)

    def test_mode(self):
        for mode in (0o666, 0o664, 0o622, 0o777):
            with self.subTest(mode=oct(mode)):
                os.chmod(self.registry, mode)
                self.refused('mode|permission|writ')

    def test_magic(self):
        for data in (b'\0' * 8, b'EVERMAPX', b'\xff' * 8):
            with self.subTest(data=data):
                self.overwrite(MAGIC_OFFSET, data)
                self.refused('magic|not a registry|not an? .*(registry|segment)')

    def test_newer_layout(self):
        version, = struct.unpack('<I', self.read(LAYOUT_VERSION_OFFSET, 4))
        for newer in (version + 1, 2**31, 2**32 - 1):
            with self.subTest(version=newer):
                self.overwrite(LAYOUT_VERSION_OFFSET, struct.pack('<I', newer))
                self.refused('layout|version')

    def test_layout_zero(self):
        self.overwrite(LAYOUT_VERSION_OFFSET, struct.pack('<I', 0))
        self.refused('layout|version|header')

    def test_truncated(self):
        size = os.path.getsize(self.registry)
        for shorter in (size - 1, size - 4096, size // 2, 4096, 4095, 100, 8, 1, 0):
            with self.subTest(size=shorter):
                os.truncate(self.registry, shorter)
                self.refused('size|short|trunc|empty|byte|magic')

    def test_too_long(self):
        # It grows as it is used, but not as far as this.
        os.truncate(self.registry, 400 << 20)
        self.refused('size|byte|long')

    def test_damaged_header(self):
        """Each word of the header, set to odd values: refused, or at least harmless."""
        header = self.read(0, 128)
        for offset in range(16, 104, 8):
            for value in (0, 1, 2**63, 2**64 - 1):
                with self.subTest(offset=offset, value=value):
                    self.overwrite(0, header)
                    self.overwrite(offset, struct.pack('<Q', value))
                    self.refused('')

    def test_symbolic_link(self):
        link = os.path.join(self.directory, 'link')
        os.symlink(self.registry, link)
        before = fingerprint(self.registry)
        self.refused('link|regular', link)
        self.assertEqual(fingerprint(self.registry), before)

    def test_symbolic_link_to_nowhere(self):
        target = os.path.join(self.directory, 'target')
        link = os.path.join(self.directory, 'link')
        os.symlink(target, link)
        self.refused('link|regular|exist', link)
        self.assertFalse(os.path.exists(target))

    def test_directory(self):
        path = os.path.join(self.directory, 'directory')
        os.mkdir(path)
        self.refused('directory|regular', path)

    def test_fifo(self):
        path = os.path.join(self.directory, 'fifo')
        os.mkfifo(path)
        self.refused('regular|fifo|pipe|type', path)

    def test_device(self):
        before = os.stat('/dev/null')
        self.assertIn('/dev/null', self.start_in_vain(registry='/dev/null'))
        self.assertEqual(os.stat('/dev/null').st_mode, before.st_mode)

    def test_directory_that_does_not_exist(self):
        path = os.path.join(self.directory, 'nowhere', 'registry')
        self.assertIn(path, self.start_in_vain(registry=path))
        self.assertFalse(os.path.exists(os.path.dirname(path)))

    def test_path_through_a_file(self):
        path = os.path.join(self.registry, 'registry')
        self.assertIn(path, self.start_in_vain(registry=path))

    def test_mode_of_a_new_one(self):
        """0644, whatever the umask."""
        for umask in (0o000, 0o077):
            path = os.path.join(self.directory, 'new-%o' % umask)
            with self.subTest(umask=oct(umask)), Mapper(directory=self.directory, registry=path,
                                                        before_exec=lambda mask=umask: os.umask(mask) and None):
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)


class ListeningTest(unittest.TestCase):

    def listens(self, mapper, host):
        try:
            return harness.Client(mapper.port, host).request(b'n')[:4] == struct.pack('>I', mapper.port)
        except OSError:
            return False

    def check(self, address, yes, no, env=None):
        with Mapper(address=address, env=env) as mapper:
            for host in yes:
                self.assertTrue(self.listens(mapper, host), f'-address {address} does not listen on {host}')
            for host in no:
                self.assertFalse(self.listens(mapper, host), f'-address {address} listens on {host}')
            node, _ = mapper.register(b'node')
            for host in yes:
                self.assertIsNotNone(harness.Client(mapper.port, host).lookup(b'node'))
            node.close()

    def setUp(self):
        self.v6 = ['::1']
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
                probe.bind(('::1', 0))
        except OSError:
            self.v6 = []

    def test_all_addresses(self):
        self.check(None, ['127.0.0.1', '127.0.0.2', *self.v6], [])

    def test_loopback_is_always_added(self):
        self.check('127.0.0.7', ['127.0.0.1', '127.0.0.7'], ['127.0.0.6'])

    def test_loopback_given_is_not_added_twice(self):
        self.check('127.0.0.1', ['127.0.0.1'], ['127.0.0.6'])
        self.check('127.0.0.1,127.0.0.1', ['127.0.0.1'], ['127.0.0.6'])

    def test_list(self):
        self.check('127.0.0.7,127.0.0.8', ['127.0.0.1', '127.0.0.7', '127.0.0.8'], ['127.0.0.6'])

    def test_separators(self):
        for address in ('127.0.0.7, 127.0.0.8', '127.0.0.7 127.0.0.8', ',127.0.0.7,,127.0.0.8,'):
            with self.subTest(address=address):
                self.check(address, ['127.0.0.1', '127.0.0.7', '127.0.0.8'], ['127.0.0.6'])

    def test_v6(self):
        if not self.v6:
            self.skipTest('no IPv6 here')
        self.check('::1', ['::1', '127.0.0.1'], ['127.0.0.6'])
        self.check('127.0.0.7,::1', ['::1', '127.0.0.1', '127.0.0.7'], ['127.0.0.6'])

    def test_environment(self):
        self.check(None, ['127.0.0.1', '127.0.0.7', '127.0.0.8'], ['127.0.0.6'], {'ERL_EPMD_ADDRESS': '127.0.0.7,127.0.0.8'})

    def test_option_goes_before_environment(self):
        self.check('127.0.0.7', ['127.0.0.1', '127.0.0.7'], ['127.0.0.8'], {'ERL_EPMD_ADDRESS': '127.0.0.8'})

    @harness.as_root_only
    def test_host_without_ipv6(self):
        with harness.TwoHosts() as hosts:
            done = subprocess.run([*hosts.server_prefix, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'],
                                  check=False, capture_output=True)
            if done.returncode != 0:
                self.skipTest('cannot switch IPv6 off: ' + done.stderr.decode())
            for address in (None, '127.0.0.7'):
                mapper = Mapper(address=address, prefix=hosts.server_prefix)
                try:
                    with hosts.on_server():
                        mapper.start()
                        node, _ = mapper.register(b'node')
                        self.assertIsNotNone(mapper.lookup(b'node'))
                        node.close()
                finally:
                    mapper.close()


    @harness.ours_only
    def test_port_of_a_socket_that_nobody_serves(self):
        """As that of a mapper that has just died (listeners.cc): it is waited for, and is not a second mapper's."""
        for address in ('127.0.0.1', None):
            with self.subTest(address=address), socket.socket() as taken:
                mapper = Mapper(address=address)
                self.addCleanup(mapper.close)
                taken.bind(('127.0.0.1', mapper.port))
                mapper.start(answering=False)
                # It holds no port, and waits for one.
                harness.wait_until(lambda m=mapper: self.sleeps(m.pid), 'it waits')
                taken.close()
                harness.wait_until(lambda m=mapper: self.listens(m, harness.HOST), lambda m=mapper: f'it answers: {m.log()}')
                mapper.close()

    def sleeps(self, pid):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/wchan') as file, open(f'/proc/{pid}/comm') as comm:
            where = file.read()
            return comm.read() == 'epmd\n' and ('nanosleep' in where or where == '0')  # 0: the kernel does not tell
        return False

    @harness.ours_only
    def test_port_that_stays_taken(self):
        with socket.socket() as taken:
            mapper = Mapper(args=['-d'])
            self.addCleanup(mapper.close)
            taken.bind((harness.HOST, mapper.port))
            mapper.start(answering=False)
            self.assertEqual(mapper.wait(), 0)
            self.assertIn('already', mapper.log())


class DaemonTest(TemporaryDirectoryTest):

    def start_daemon(self, *args, env=None):
        """Starts one with pipes as standard output and error; returns its port and pid."""
        port = harness.free_port()
        if not harness.TESTING_STOCK:
            args = ('-loop', harness.LOOP, '-registry', self.registry, *args)
        # run() reads the pipes to their end: it would hang if the daemon had kept them.
        done = harness.run_epmd('-daemon', '-address', '127.0.0.1', *args, port=port, env=env)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b'', b''), done)
        return port

    def end(self, port):
        for pid in harness.listeners(port):
            harness.end_process(pid)

    def test_accepts_connections_when_it_returns(self):
        for _ in range(20):
            port = self.start_daemon()
            try:
                if not harness.TESTING_STOCK:  # which returns before
                    self.assertEqual(harness.Client(port).names(), [])
            finally:
                harness.wait_until(lambda: harness.listeners(port), 'it listens')
                self.end(port)

    def test_detached(self):
        port = self.start_daemon()
        try:
            client = harness.Client(port)
            harness.wait_until(lambda: harness.listeners(port), 'it listens')
            pids = harness.listeners(port)
            for pid in pids:
                self.check_detached(pid)
            node, _ = client.register(b'node')
            self.assertEqual(client.kill(), b'NO')
            node.close()
            client.wait_gone(b'node')
            self.assertEqual(client.kill(), b'OK')
            for pid in pids:
                harness.wait_until(lambda: not harness.process_exists(pid), 'it ended')
            self.assertEqual(harness.listeners(port), set())
        finally:
            self.end(port)

    def check_detached(self, pid):
        with open(f'/proc/{pid}/stat') as file:
            fields = file.read().rsplit(')', 1)[1].split()
        parent, group, session, terminal = (int(field) for field in fields[1:5])
        self.assertNotEqual(parent, os.getpid())
        self.assertNotEqual(group, os.getpgid(0))
        self.assertNotEqual(session, os.getsid(0))
        self.assertEqual(terminal, 0)
        self.assertEqual(os.readlink(f'/proc/{pid}/cwd'), '/')
        for descriptor in (0, 1, 2):
            harness.wait_until(lambda: os.readlink(f'/proc/{pid}/fd/{descriptor}') == '/dev/null',
                               f'process {pid} lets go of descriptor {descriptor}')

    @harness.ours_only
    def test_no_descriptor_is_inherited(self):
        read_end, write_end = os.pipe()
        os.set_inheritable(write_end, True)
        port = harness.free_port()
        command = [harness.EPMD, '-daemon', '-address', '127.0.0.1', '-port', str(port), '-loop', harness.LOOP, '-registry',
                   self.registry]
        subprocess.run(command, close_fds=False, check=True, env=harness.clean_environment(), timeout=harness.PATIENCE_S)
        os.close(write_end)
        try:
            os.set_blocking(read_end, False)
            self.assertEqual(os.read(read_end, 1), b'', 'the daemon keeps a descriptor of whoever started it')
        except BlockingIOError:
            self.fail('the daemon keeps a descriptor of whoever started it')
        finally:
            os.close(read_end)
            self.end(port)

    @harness.ours_only
    def test_debugging_daemon(self):
        port = self.start_daemon('-d', '-d', '-d')
        try:
            client = harness.Client(port)
            node, _ = client.register(b'node')
            self.assertIsNotNone(client.lookup(b'node'))
            refused, reply = client.alive2(b'node')
            refused.close()
            self.assertEqual(harness.alive2_result(reply)[0], 1)
            node.close()
            client.wait_gone(b'node')
        finally:
            self.end(port)

    @harness.ours_only
    def test_without_standard_streams(self):
        """None of the mapper's sockets gets the number of one."""
        port = harness.free_port()
        done = harness.run_epmd('-c', 'exec "$0" "$@" <&- >&- 2>&-', harness.EPMD, '-daemon', '-port', str(port), '-address',
                                '127.0.0.1', '-loop', harness.LOOP, '-registry', self.registry, binary='/bin/sh')
        try:
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual(harness.Client(port).names(), [])
            for pid in harness.listeners(port):
                for descriptor in (0, 1, 2):
                    harness.wait_until(lambda p=pid, d=descriptor: os.readlink(f'/proc/{p}/fd/{d}') == '/dev/null',
                                       'is no socket')
        finally:
            self.end(port)

    @harness.ours_only
    @harness.as_root_only
    def test_daemon_without_a_null_device(self):
        """Where /dev has nothing: it serves, and lets go of the pipe that it was started with; so does the next mapper."""
        port = harness.free_port()
        done = harness.run_epmd('--mount', '/bin/sh', '-c', 'mount -t tmpfs none /dev && exec "$0" "$@"', harness.EPMD, '-daemon', '-port',
                                str(port), '-address', '127.0.0.1', '-loop', harness.LOOP, '-registry', self.registry, binary='unshare')
        try:
            self.assertEqual(done.returncode, 0, done)
            mapper = harness.Mapper(port=port, registry=self.registry)
            self.addCleanup(mapper.close)
            pid = status(mapper)['pid']
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda: status(mapper)['running'] and status(mapper)['pid'] != pid, 'another mapper')
            self.assertEqual(harness.Client(port).names(), [])
        finally:
            self.end(port)

    def test_second_daemon(self):
        port = self.start_daemon()
        try:
            harness.wait_until(lambda: harness.listeners(port), 'it listens')
            before = harness.listeners(port)
            args = [] if harness.TESTING_STOCK else ['-loop', harness.LOOP, '-registry', self.registry]
            done = harness.run_epmd('-daemon', '-address', '127.0.0.1', *args, port=port)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b'', b''), done)
            self.assertEqual(harness.listeners(port), before)
        finally:
            self.end(port)

    @harness.ours_only
    def test_daemon_that_cannot_start(self):
        """Whoever starts it gets to know why it does not run."""
        os.mkdir(self.registry)
        line = self.start_in_vain('-daemon')
        self.assertIn(self.registry, line)
        os.rmdir(self.registry)
        self.assertIn(UNBOUND_ADDRESS, self.start_in_vain('-daemon', '-address', UNBOUND_ADDRESS))

    @harness.ours_only
    def test_relative_registry(self):
        port = harness.free_port()
        done = harness.run_epmd('-daemon', '-address', '127.0.0.1', '-loop', harness.LOOP, '-registry', 'registry', port=port,
                                cwd=self.directory)
        try:
            self.assertEqual(done.returncode, 0, done)
            self.assertTrue(os.path.exists(self.registry))
        finally:
            self.end(port)

    @harness.ours_only
    def test_default_registry(self):
        """By port, in $RUNTIME_DIRECTORY; nothing else is made."""
        port = harness.free_port()
        # As systemd does, which tells the process that it executes by its pid.
        command = ['/bin/sh', '-c', 'SYSTEMD_EXEC_PID=$$ exec "$0" "$@"', harness.EPMD, '-port', str(port), '-daemon',
                   '-address', '127.0.0.1', '-loop', harness.LOOP]
        done = subprocess.run(command, env={**os.environ, 'RUNTIME_DIRECTORY': self.directory}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        try:
            self.assertEqual(done.returncode, 0, done)
            self.assertIn(f'registry.{port}', os.listdir(self.directory))
        finally:
            self.end(port)

    @harness.ours_only
    def test_inherited_runtime_directory(self):
        """The directory of a service that has merely started a mapper is not the mapper's."""
        port = harness.free_port()
        done = harness.run_epmd('-daemon', '-address', '127.0.0.1', '-loop', harness.LOOP, port=port,
                                env={'RUNTIME_DIRECTORY': self.directory, 'SYSTEMD_EXEC_PID': '1'})
        try:
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual([name for name in os.listdir(self.directory) if name.startswith('registry')], [])
        finally:
            self.end(port)


# Puts the inherited sockets where systemd's protocol has them and becomes the mapper: LISTEN_PID has to be its own pid.
_LIKE_SYSTEMD = '''
import fcntl, os, sys
given = [int(fd) for fd in sys.argv[1].split(',')]
parked = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in given]
for place, fd in enumerate(parked):
    os.dup2(fd, 3 + place, inheritable=True)
os.closerange(3 + len(parked), 200)
os.environ['LISTEN_PID'] = str(os.getpid() + int(sys.argv[2]))
os.environ['LISTEN_FDS'] = str(len(parked))
os.execv(sys.argv[3], sys.argv[3:])
'''


class SystemdTest(TemporaryDirectoryTest):

    def run_with_sockets(self, sockets, port, pid_offset=0, args=()):
        command = [sys.executable, '-c', _LIKE_SYSTEMD, ','.join(str(s.fileno()) for s in sockets), str(pid_offset),
                   harness.EPMD, '-systemd', '-port', str(port), *args]
        if not harness.TESTING_STOCK:
            command += ['-loop', harness.LOOP, '-registry', self.registry]
        self.log = open(os.path.join(self.directory, 'log'), 'w+b')
        self.addCleanup(self.log.close)
        process = subprocess.Popen(command, pass_fds=[s.fileno() for s in sockets], env=harness.clean_environment(),
                                   stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def listen(self, host, port, family=socket.AF_INET):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(100)
        self.addCleanup(listener.close)
        return listener

    @harness.ours_only
    def test_connections_that_wake_a_dying_mapper(self):
        """The kernel chooses whom a connection wakes; a ring is there for some time after its process has died."""
        port = harness.free_port()
        listener = self.listen('127.0.0.1', port)
        client = harness.Client(port, '127.0.0.1')
        first = self.run_with_sockets([listener], port, args=['-no_keeper'])
        self.assertIsNone(client.lookup(b'nobody'))
        # One that is stopped takes no connection either, and nobody can see that it will not.
        first.send_signal(signal.SIGSTOP)

        def is_stopped():
            states = []
            for path in glob.glob(f'/proc/{first.pid}/task/*/stat'):
                with open(path) as line:
                    states.append(line.read().rsplit(')', 1)[1].split()[0])
            return set(states) == {'T'}
        harness.wait_until(is_stopped, 'it stops')
        self.registry += '2'
        second = self.run_with_sockets([listener], port, args=['-no_keeper'])
        for _ in range(5):
            self.assertIsNone(client.lookup(b'nobody'))
        first.kill()
        self.assertIsNone(client.lookup(b'nobody'))
        self.assertIsNone(second.poll())

    def check(self, hosts):
        port = harness.free_port()
        listeners = [self.listen(host, port, socket.AF_INET6 if ':' in host else socket.AF_INET) for host in hosts]
        # As with systemd: somebody connects before the mapper runs, and is served once it does.
        early = harness.Client(port, hosts[-1]).connect()
        early.sendall(harness.frame(b'n'))
        process = self.run_with_sockets(listeners, port)
        for listener in listeners:
            listener.close()
        self.assertEqual(harness.receive_all(early), struct.pack('>I', port))
        early.close()
        node, _ = harness.Client(port, hosts[0]).register(b'node', port=4711)
        for host in hosts:
            for _ in range(20):
                self.assertEqual(harness.Client(port, host).lookup(b'node').port, 4711)
        self.assertIsNone(process.poll())
        node.close()
        process.send_signal(signal.SIGTERM)
        process.wait(harness.PATIENCE_S)

    def test_one_socket(self):
        self.check(['127.0.0.1'])

    @harness.ours_only
    def test_three_sockets(self):
        self.check(['127.0.0.1', '127.0.0.7', '127.0.0.8'])

    @harness.ours_only
    def test_v4_and_v6_sockets(self):
        self.check(['127.0.0.1', '::1'] if socket.has_ipv6 else ['127.0.0.1'])

    @harness.ours_only
    def test_sockets_of_somebody_else(self):
        """LISTEN_PID is not ours: no socket is for us."""
        port = harness.free_port()
        process = self.run_with_sockets([self.listen('127.0.0.1', port)], port, pid_offset=1)
        self.assertEqual(process.wait(harness.PATIENCE_S), 1)
        self.log.seek(0)
        self.assertRegex(self.log.read().decode(), r'^[^\n]*systemd[^\n]*\n$')

    @harness.ours_only
    def test_no_sockets(self):
        self.assertIn('systemd', self.start_in_vain('-systemd'))

    @harness.ours_only
    def test_more_sockets_than_it_takes(self):
        port = harness.free_port()
        line = self.last_line(self.run_with_sockets([self.listen(f'127.0.0.{1 + i}', port) for i in range(65)], port))
        self.assertIn('65 sockets', line)

    @harness.ours_only
    def test_number_of_sockets_that_is_none(self):
        code = 'import os, sys; os.environ["LISTEN_PID"] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])'
        done = harness.run_epmd('-c', code, harness.EPMD, '-port', str(harness.free_port()), '-address', '127.0.0.1', '-registry',
                                self.registry, binary=sys.executable, env={'LISTEN_FDS': '-3'})
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('LISTEN_FDS', one_line(done))

    def last_line(self, process):
        self.assertEqual(process.wait(harness.PATIENCE_S), 1)
        self.log.seek(0)
        line = self.log.read().decode()
        self.assertRegex(line, r'^[^\n]+\n$')
        return line

    @harness.ours_only
    def test_descriptor_that_is_no_listening_socket(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, open('/dev/null') as file:
            for wrong in (datagram, file):
                with self.subTest(wrong=wrong):
                    process = self.run_with_sockets([wrong], harness.free_port())
                    self.assertEqual(process.wait(harness.PATIENCE_S), 1)
                    self.log.seek(0)
                    self.assertRegex(self.log.read().decode(), r'^[^\n]+\n$')


class Usual(Kept):
    """A mapper, and a keeper, that keep their registry in the usual place."""

    def command(self):
        command = super().command()
        at = command.index('-registry')
        return command[:at] + command[at + 2:]

    def family(self):
        return {int(entry) for entry in os.listdir('/proc') if entry.isdigit() and
                str(self.port).encode() in command_line(int(entry)) and process_exists(int(entry))}

    def mapper_pid(self):
        """0 while there is none, or two."""
        pids = self.family() - {self.pid}
        return pids.pop() if len(pids) == 1 else 0


@harness.ours_only
class PlaceTest(TemporaryDirectoryTest):
    """Machines that lack something: the mapper does without it, or says what it needs."""

    def test_few_descriptors(self):
        """A soft limit is raised; a hard one that leaves nothing for nodes is said."""
        with Mapper(before_exec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))) as mapper:
            with open(f'/proc/{mapper.pid}/limits') as limits:
                self.assertRegex(limits.read(), r'Max open files +1024 +1024 ')
        mapper = Mapper(descriptors=40, args=['-workers', '1'])
        self.addCleanup(mapper.close)
        mapper.start(answering=False)
        self.assertEqual(mapper.wait(), 1)
        self.assertIn('LimitNOFILE', mapper.log())
        self.assertEqual(len(mapper.log().splitlines()), 1, mapper.log())

    def in_namespace(self, script):
        """What runs a command in mounts of its own, after a script."""
        prefix = ['unshare', '--mount', 'sh', '-c', f'{script} && exec "$@"', '-']
        done = subprocess.run([*prefix, 'true'], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest(f'no mounts here: {done}')
        return prefix

    @harness.as_root_only
    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers need /proc')
    def test_without_proc(self):
        """The registry is made, filled, and found again by the next mapper."""
        prefix = self.in_namespace('umount -l /proc')
        creation = None
        for _ in range(2):
            with Mapper(directory=self.directory, registry=self.registry, prefix=prefix) as mapper:
                node, another = mapper.register(b'node', port=4711)
                self.assertEqual(mapper.lookup(b'node').port, 4711)
                self.assertEqual(creation or another - 1, another - 1)
                creation = another
                node.close()
                mapper.wait_gone(b'node')
        self.assertEqual([name for name in os.listdir(self.directory) if name.startswith('.')], [])

    @harness.as_root_only
    def test_file_system_that_is_full(self):
        prefix = self.in_namespace(f'mount -t tmpfs -o size=4k tmpfs {self.directory}')
        done = harness.run_epmd(*prefix[1:], harness.EPMD, '-port', str(harness.free_port()), '-address', '127.0.0.1',
                                '-no_keeper', '-registry', self.registry, binary=prefix[0])
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('make room there', one_line(done))

    @harness.as_root_only
    def test_usual_place_without_room(self):
        """The registry has no file then, so that tools do not find it, and is handed on all the same."""
        for place in ('-o size=4k tmpfs', '-o ro tmpfs'):
            with self.subTest(place=place), \
                 Usual(directory=self.directory, prefix=self.in_namespace(f'mount -t tmpfs {place} /run')) as mapper:
                self.assertIn('the registry has no file', mapper.log())
                with mapper.register(b'hare', port=4711)[0] as connection, mapper.register(b'fox', port=4712)[0]:
                    time.sleep(0.5)  # in which the keeper gets the connections
                    for number in (signal.SIGKILL, signal.SIGHUP, signal.SIGKILL):
                        before = mapper.mapper_pid()
                        os.kill(before, number)
                        harness.wait_until(lambda b=before: mapper.mapper_pid() not in (0, b), lambda: f'another: {mapper.log()}')
                        harness.wait_until(lambda: mapper.lookup(b'hare') is not None, lambda: f'it is found: {mapper.log()}')
                        self.assertEqual(mapper.lookup(b'fox').port, 4712)
                    self.assertNotIn('have lost their connection', mapper.log())
                    connection.close()
                    mapper.wait_gone(b'hare')
                    self.assertEqual(mapper.lookup(b'fox').port, 4712)

    @harness.as_root_only
    def test_file_system_that_becomes_full(self):
        """Who is registered stays, whoever comes is refused, and may come when there is room."""
        prefix = self.in_namespace(f'mount -t tmpfs -o size=1m tmpfs {self.directory}')
        mapper = Mapper(prefix=prefix, registry=self.registry, args=['-capacity', '2048', '-workers', '1'])
        self.addCleanup(mapper.close)
        mapper.start()
        nodes = {}
        refused = None
        for number in range(2048):
            name = b'node%d' % number
            connection, reply = mapper.alive2(name, port=number + 1, extra=b'x' * 1000)
            self.addCleanup(connection.close)
            if harness.alive2_result(reply)[0] != 0:
                refused = name
                break
            nodes[name] = connection
        self.assertIsNotNone(refused, 'all have room')
        for name in nodes:
            self.assertEqual(mapper.lookup(name).port, int(name[4:]) + 1)
        self.assertEqual(len(mapper.names()), len(nodes))
        self.assertIn('capacity', mapper.log())
        nodes.pop(b'node0').close()
        mapper.wait_gone(b'node0')
        again, _ = mapper.register(b'node0', port=7)
        self.assertEqual(mapper.lookup(b'node0').port, 7)
        again.close()


class EndTest(unittest.TestCase):

    def test_signals(self):
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            for nodes in (0, 10):
                with self.subTest(signal=signal_number, nodes=nodes), Mapper() as mapper:
                    connections = [mapper.register(b'node%d' % number)[0] for number in range(nodes)]
                    pending = [mapper.connect() for _ in range(10)]
                    code = mapper.stop(signal_number)
                    if not mapper.is_stock:
                        self.assertEqual(code, 0)
                    for connection in connections + pending:
                        self.assertTrue(harness.sees_close(connection))
                        connection.close()
                    self.assertEqual(harness.listeners(mapper.port), set())

    @harness.ours_only
    def test_sigpipe_and_sighup_do_not_end_it_silently(self):
        with Mapper() as mapper:
            os.kill(mapper.pid, signal.SIGPIPE)
            self.assertEqual(mapper.names(), [])

    def test_relaxed_command_check_from_the_environment(self):
        with Mapper(env={'ERL_EPMD_RELAXED_COMMAND_CHECK': '1'}) as mapper:
            node, _ = mapper.register(b'node')
            self.assertEqual(mapper.stop_node(b'node'), b'STOPPED')
            node.close()
            node, _ = mapper.register(b'node')
            self.assertEqual(mapper.kill(), b'OK')
            self.assertEqual(mapper.wait(), 0)
            node.close()

    def test_port_from_the_environment(self):
        port = harness.free_port()
        mapper = Mapper(port=port, env={'ERL_EPMD_PORT': str(port)})
        command = [part for part in mapper.command() if part not in ('-port', str(port))]
        mapper.command = lambda: command
        try:
            mapper.start()
            self.assertEqual(mapper.names(), [])
        finally:
            mapper.close()


@harness.ours_only
class LoopTest(unittest.TestCase):

    def lines_about_the_loop(self, mapper):
        return [line for line in mapper.log().splitlines() if re.search(r'io_uring|epoll', line)]

    def test_choice_is_logged(self):
        for loop in ('epoll', harness.LOOP):
            with self.subTest(loop=loop), Mapper(loop=loop) as mapper:
                lines = self.lines_about_the_loop(mapper)
                self.assertEqual(len(lines), 1, mapper.log())
                if loop != 'auto':
                    self.assertIn(loop, lines[0])

    def test_auto_where_io_uring_is_refused(self):
        for first, last in ((seccomp.IO_URING_SETUP, seccomp.IO_URING_REGISTER), (seccomp.IO_URING_ENTER, seccomp.IO_URING_ENTER),
                            (seccomp.IO_URING_REGISTER, seccomp.IO_URING_REGISTER)):
            with self.subTest(first=first, last=last):
                self.check_epoll(Mapper(loop='auto', before_exec=lambda f=first, n=last: seccomp.refuse_io_uring(f, n)))

    def test_auto_says_why_it_is_not_io_uring(self):
        for error, why in ((errno.ENOSYS, 'has no io_uring'), (errno.EACCES, 'forbidden'), (errno.ENOMEM, 'RLIMIT_MEMLOCK'),
                           (errno.EMFILE, 'ulimit -n'), (errno.EINVAL, 'Linux 5.19'), (errno.EIO, os.strerror(errno.EIO))):
            with self.subTest(why=why), Mapper(loop='auto', before_exec=lambda e=error: seccomp.refuse_io_uring(error=e)) as mapper:
                line, = self.lines_about_the_loop(mapper)
                self.assertIn('epoll, because', line)
                self.assertIn(why, line)

    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers want to be loaded first')
    def test_auto_where_the_kernel_is_too_old(self):
        """Linux before 5.19 has rings, and no multishot accept."""
        self.check_epoll(Mapper(loop='auto', env={'LD_PRELOAD': os.environ['OLD_RING'], 'RING_FLAGS_REFUSED': str(seccomp.SINCE_5_19)}))

    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers want to be loaded first')
    def test_without_deferred_work(self):
        """Linux 5.19 and 6.0."""
        with Mapper(loop='io_uring', env={'LD_PRELOAD': os.environ['OLD_RING']}) as mapper:
            node, _ = mapper.register(b'node', port=4711)
            self.assertEqual(mapper.lookup(b'node').port, 4711)
            node.close()
            mapper.wait_gone(b'node')

    def check_epoll(self, mapper):
        with mapper:
            lines = self.lines_about_the_loop(mapper)
            self.assertEqual(len(lines), 1, mapper.log())
            self.assertIn('epoll', lines[0])
            self.assertIn('io_uring', lines[0])
            node, _ = mapper.register(b'node', port=4711)
            self.assertEqual(mapper.lookup(b'node').port, 4711)
            node.close()
            mapper.wait_gone(b'node')

    def test_io_uring_demanded_where_it_is_refused(self):
        mapper = Mapper(loop='io_uring', before_exec=seccomp.refuse_io_uring)
        try:
            mapper.start(answering=False)
            self.assertEqual(mapper.wait(), 1)
            self.assertEqual(len(mapper.log().splitlines()), 1, mapper.log())
            self.assertIn('io_uring', mapper.log())
        finally:
            mapper.close()

    def test_numbers_of_workers(self):
        for workers in (1, 2, 3, 8, 16):
            with self.subTest(workers=workers), Mapper(args=['-workers', str(workers)]) as mapper:
                nodes = [mapper.register(b'node%d' % number, port=number)[0] for number in range(50)]
                for number in range(50):
                    self.assertEqual(mapper.lookup(b'node%d' % number).port, number)
                self.assertEqual(len(mapper.names()), 50)
                for node in nodes:
                    node.close()
                harness.wait_until(lambda: not mapper.names(), 'all are gone')

    def test_delays(self):
        """The options that simulate a busy server are taken."""
        for option in ('-delay_accept', '-delay_write'):
            with self.subTest(option=option), Mapper(args=[option, '1']) as mapper:
                self.assertIsNone(mapper.lookup(b'nobody'))
                self.assertEqual(mapper.names(), [])


@harness.ours_only
@unittest.skipIf(harness.INSTRUMENTED, 'sanitizers have threads of their own')
class ThreadsTest(TemporaryDirectoryTest):
    """The kernel may permit fewer threads than the mapper wants, or none."""

    def test_none(self):
        for args in (['-no_keeper'], [], ['-daemon']):
            with self.subTest(args=args):
                done = harness.run_epmd('-address', '127.0.0.1', '-registry', self.registry, *args, port=harness.free_port(),
                                        preexec_fn=seccomp.refuse_threads)
                self.assertEqual(done.returncode, 1, done)
                self.assertIn(b'no thread', done.stderr)
                self.assertNotIn(b'signal', done.stderr)

    @harness.as_root_only
    def test_fewer(self):
        """One is enough. All are processes of a user's who has no others: main thread, log, and what is left for workers."""
        user = 61234
        for limit, workers in ((3, 1), (5, 3)):
            with self.subTest(limit=limit):
                def limited(limit=limit):
                    os.setgid(user)
                    os.setuid(user)
                    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
                os.chmod(self.directory, 0o777)
                registry = os.path.join(self.directory, f'registry-{limit}')
                with Mapper(args=['-workers', '8'], registry=registry, before_exec=limited) as mapper:
                    self.assertRegex(mapper.log(), f'serves with {workers} instead of 8 workers: no thread: ')
                    self.assertRegex(mapper.log(), f'serves port {mapper.port} with {workers} workers')
                    node, _ = mapper.register(b'node', port=4711)
                    self.assertEqual(mapper.lookup(b'node').port, 4711)
                    node.close()

    def test_as_many_as_are_of_use(self):
        """Nobody has said how many."""
        with Mapper() as mapper:
            workers = int(re.search(r'with (\d+) workers', mapper.log())[1])
        self.assertLessEqual(workers, min(len(os.sched_getaffinity(0)), 16))
        with Mapper(before_exec=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) as mapper:
            self.assertIn('with 1 workers', mapper.log())


class TellingTest(unittest.TestCase):

    @harness.ours_only
    def test_version(self):
        done = harness.run_epmd('-version')
        self.assertEqual((done.returncode, done.stderr), (0, b''), done)
        self.assertRegex(done.stdout.decode(), r'(?i)^[^\n]*evermap[^\n]* \d+\.\d+\.\d+[^\n]*\n$')

    @harness.ours_only
    def test_help(self):
        done = harness.run_epmd('-help')
        self.assertEqual(done.returncode, 0, done)
        text = done.stdout.decode() + done.stderr.decode()
        for option in ('-d', '-debug', '-daemon', '-address', '-port', '-packet_timeout', '-delay_accept', '-delay_write',
                       '-relaxed_command_check', '-names', '-started', '-dump', '-kill', '-stop', '-systemd', '-loop', '-workers',
                       '-registry', '-capacity', '-version', '-help'):
            self.assertRegex(text, rf'(?m){option}\b')

    @harness.ours_only
    def test_debugging_says_more(self):
        sizes = []
        for args in ([], ['-d'], ['-d', '-d']):
            with Mapper(args=args) as mapper:
                node, _ = mapper.register(b'node')
                mapper.lookup(b'node')
                node.close()
                mapper.wait_gone(b'node')
                sizes.append(len(mapper.log()))
        self.assertLess(sizes[0], sizes[1])
        self.assertLessEqual(sizes[1], sizes[2])


if __name__ == '__main__':
    unittest.main()
