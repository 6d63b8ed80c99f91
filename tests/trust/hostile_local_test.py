"""Another user of the host, and a damaged place: no name, no privilege and no crash to be gained (SECURITY.md)."""

import contextlib
import os
import shutil
import subprocess
import sys
import unittest

import harness
from harness import Kept, Mapper
from harness.epmdctl import NO_REGISTRY, creations

NOBODY = 65534
AS_NOBODY = ['setpriv', '--reuid', str(NOBODY), '--regid', str(NOBODY), '--clear-groups', '--no-new-privs', '--']
REGISTRATIONS_MAX = 5000

can_become_nobody = unittest.skipUnless(os.geteuid() == 0 and shutil.which('setpriv'), 'needs root and setpriv')


def can_share_directories():
    return os.geteuid() == 0 and all(shutil.which(program) for program in ('setpriv', 'unshare', 'nsenter'))


class LocalCase(unittest.TestCase):

    def kept(self, **options):
        mapper = Kept(**options)
        self.addCleanup(mapper.close)
        mapper.start()
        os.chmod(mapper.directory, 0o755)
        return mapper

    def as_nobody(self, code, *args):
        """Runs Python as another user; its standard output."""
        done = subprocess.run([*AS_NOBODY, sys.executable, '-c', code, *args], capture_output=True, text=True, check=False,
                              timeout=harness.PATIENCE_S, stdin=subprocess.DEVNULL, cwd='/')
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()


@harness.ours_only
class OtherUserTest(LocalCase):

    @can_become_nobody
    def test_registry_cannot_be_written_locked_or_replaced(self):
        mapper = self.kept()
        node, _ = mapper.register(b'node', port=4711)
        self.addCleanup(node.close)
        before = creations(mapper)
        attempts = '''
import os, sys
path = sys.argv[1]
for name, attempt in (
        ('write', lambda: os.open(path, os.O_RDWR)),
        ('truncate', lambda: os.truncate(path, 0)),
        ('remove', lambda: os.unlink(path)),
        ('rename', lambda: os.rename(path, path + '.old')),
        ('link', lambda: os.symlink('/etc/passwd', path + '.upgrade')),
        ('create', lambda: os.open(path + '.new', os.O_CREAT | os.O_WRONLY)),
        ('mode', lambda: os.chmod(path, 0o666))):
    try:
        attempt()
        print(name)
    except OSError:
        pass
# What is beside the registry is the mapper's alone, but for what `epmdctl status` and `epmdctl config` show to everybody.
for entry in os.listdir(os.path.dirname(path)):
    if entry != os.path.basename(path) and not entry.startswith('log'):
        try:
            is_shown = entry.endswith(('.activity', '.settings'))
            os.open(os.path.join(os.path.dirname(path), entry), os.O_RDWR if is_shown else os.O_RDONLY)
            print('opened ' + entry)
        except OSError:
            pass
'''
        self.assertEqual(self.as_nobody(attempts, mapper.registry), '')
        self.assertEqual(creations(mapper), before)

    @can_become_nobody
    def test_processes_cannot_be_ended_or_upgraded(self):
        mapper = self.kept()
        pids = [str(pid) for pid in mapper.family()]
        attempts = '''
import os, signal, sys
for pid in sys.argv[1:]:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(int(pid), number)
            print(pid)
        except OSError:
            pass
'''
        self.assertEqual(self.as_nobody(attempts, *pids), '')
        self.assertEqual({str(pid) for pid in mapper.family()}, set(pids))

    @can_become_nobody
    def test_second_mapper_of_another_user(self):
        """It gets neither the port nor the file, and says so in one line or, as erl wants it, not at all."""
        mapper = self.kept()
        node, _ = mapper.register(b'node', port=4711)
        self.addCleanup(node.close)
        directory = os.path.join(mapper.directory, 'nobody')
        os.mkdir(directory)
        os.chown(directory, NOBODY, NOBODY)
        program = os.path.join(mapper.directory, 'epmd')
        shutil.copy(harness.EPMD, program)
        os.chmod(program, 0o755)
        for registry, port in ((os.path.join(directory, 'registry'), mapper.port), (mapper.registry, mapper.port),
                               (mapper.registry, harness.free_port())):
            done = subprocess.run([*AS_NOBODY, program, '-no_keeper', '-port', str(port), '-address', harness.HOST,
                                   '-registry', registry], capture_output=True, check=False, stdin=subprocess.DEVNULL,
                                  timeout=harness.PATIENCE_S, env=harness.clean_environment(), cwd='/')
            self.assertIn(done.returncode, (0, 1), done)
            self.assertLessEqual(len(done.stderr.splitlines()), 1, done)
        self.assertEqual(mapper.lookup(b'node').port, 4711)

    @can_become_nobody
    def test_registry_of_another_user_is_not_used(self):
        """One that another user has laid where a mapper of root's looks."""
        mapper = Mapper()
        self.addCleanup(mapper.close)
        with Mapper(directory=mapper.directory) as first:
            first.register(b'node')[0].close()
        os.chown(mapper.registry, NOBODY, NOBODY)
        mapper.start(answering=False)
        self.assertEqual(mapper.wait(), 1)
        self.assertIn('belongs to', mapper.log().splitlines()[-1])


@harness.ours_only
class SharedDirectoryTest(unittest.TestCase):
    """Where a user has no directory of his own, /dev/shm/epmd-UID is taken, and another user was there first."""

    STRANGER = 65533

    def setUp(self):
        if not can_share_directories():
            self.skipTest('needs root, setpriv, unshare and nsenter')
        # What is mounted is seen by the processes of this test alone.
        self.holder = subprocess.Popen(
            ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mkdir -p /run/evermap && '
             'mount -t tmpfs -o mode=755 tmpfs /run/evermap && '
             f'mkdir /dev/shm/epmd-{NOBODY} && chown {self.STRANGER} /dev/shm/epmd-{NOBODY} && echo ready && exec sleep 600'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, self.holder)
        self.assertEqual(self.holder.stdout.readline(), 'ready\n')
        self.port = harness.free_port()

    def end(self, process):
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def command(self, user, *command):
        return ['nsenter', f'--mount=/proc/{self.holder.pid}/ns/mnt', '--', 'env', '-u', 'XDG_RUNTIME_DIR', '-u', 'RUNTIME_DIRECTORY',
                'setpriv', '--reuid', str(user), '--regid', str(user), '--clear-groups', '--', *command]

    def mapper(self, user, port, *args):
        process = subprocess.Popen(self.command(user, harness.EPMD, '-no_keeper', '-address', harness.HOST, '-port', str(port), *args),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end, process)
        client = harness.Client(port=port)

        def has_begun():
            with contextlib.suppress(ConnectionRefusedError):
                client.names()
                return True
            return process.poll() is not None

        harness.wait_until(has_begun, 'it answers or has ended')
        self.assertIsNone(process.poll(), 'it has ended')
        return process, client

    def test_a_registry_of_a_stranger_is_not_read(self):
        _, client = self.mapper(self.STRANGER, harness.free_port(), '-registry', f'/dev/shm/epmd-{NOBODY}/registry.{self.port}')
        node, _ = client.register(b'false')
        self.addCleanup(node.close)
        for command in (['list'], ['lookup', 'false'], ['status']):
            done = subprocess.run(self.command(NOBODY, harness.EPMDCTL, '--port', str(self.port), *command), stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, NO_REGISTRY, done)
            self.assertNotIn('false', done.stdout)

    def test_a_mapper_serves_all_the_same(self):
        process, client = self.mapper(NOBODY, self.port)
        node, _ = client.register(b'node', port=4711)
        self.addCleanup(node.close)
        self.assertEqual(client.lookup(b'node').port, 4711)
        process.terminate()
        said = process.stderr.read()
        self.assertIn(f'/dev/shm/epmd-{NOBODY}: belongs to user {self.STRANGER}', said)
        self.assertIn('the registry has no file', said)


@harness.ours_only
class EnvironmentTest(LocalCase):

    def test_false_descriptors_and_links(self):
        """LISTEN_FDS and EVERMAP_* that are not true: it serves, or ends with one line."""
        for environment in ({'LISTEN_FDS': '3', 'LISTEN_PID': '1'}, {'LISTEN_FDS': 'x'}, {'LISTEN_FDS': '-1'},
                            {'LISTEN_FDS': '2147483647'}, {'EVERMAP_KEEPER': '0'}, {'EVERMAP_KEEPER': '99'},
                            {'EVERMAP_PREDECESSOR': '1'}, {'EVERMAP_MAPPER': '2', 'EVERMAP_MAPPER_PID': '1'},
                            {'EVERMAP_WATCHER': '1'}, {'EVERMAP_BINARY': '/bin/false'}, {'NOTIFY_SOCKET': '/nonexistent'},
                            {'NOTIFY_SOCKET': '@' + 'a' * 200}):
            with self.subTest(environment=environment):
                mapper = Mapper(env=environment)
                self.addCleanup(mapper.close)
                mapper.start(answering=False)

                def fate(m=mapper):
                    if not m.alive():
                        return 'ended'
                    with contextlib.suppress(OSError):
                        return m.request(b'n') and 'serves'
                if harness.wait_until(fate, 'it serves or ends') == 'serves':
                    node, _ = mapper.register(b'node', port=4711)
                    self.assertEqual(mapper.lookup(b'node').port, 4711)
                    node.close()
                else:
                    self.assertEqual(mapper.wait(), 1, mapper.log())
                    self.assertEqual(len(mapper.log().splitlines()), 1, mapper.log())
                mapper.close()


@harness.ours_only
class DamageTest(LocalCase):

    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers make another end of SIGBUS')
    def test_registry_cut_short_while_it_is_mapped(self):
        """Only its owner can. The mapper ends by SIGBUS, its keeper starts another, which says what is wrong with the file."""
        mapper = self.kept()
        node, _ = mapper.register(b'node', port=4711)
        self.addCleanup(node.close)
        os.truncate(mapper.registry, 0)
        with contextlib.suppress(OSError):
            mapper.request(b'znode')
        harness.wait_until(lambda: 'SIGBUS' in mapper.log() or 'signal BUS' in mapper.log(), lambda: mapper.log())
        harness.wait_until(lambda: 'is truncated' in mapper.log(), lambda: mapper.log())

    def test_registry_removed_and_replaced_while_it_is_mapped(self):
        mapper = self.kept()
        node, _ = mapper.register(b'node', port=4711)
        self.addCleanup(node.close)
        os.unlink(mapper.registry)
        os.symlink('/etc/passwd', mapper.registry)
        self.assertEqual(mapper.lookup(b'node').port, 4711)
        other, _ = mapper.register(b'other', port=4712)
        self.addCleanup(other.close)
        self.assertEqual(mapper.lookup(b'other').port, 4712)
        with open('/etc/passwd', 'rb') as file:
            self.assertNotIn(b'EVERMAP', file.read())

    @harness.as_root_only
    def test_full_file_system(self):
        """New names are refused when there is no room for them, and nobody dies of it; with room again they are not."""
        mapper = Mapper(args=['-capacity', '4096'])
        self.addCleanup(mapper.close)
        place = os.path.join(mapper.directory, 'small')
        os.mkdir(place)
        mapper.registry = os.path.join(place, 'registry')
        mounts = subprocess.run(['unshare', '-m', 'true'], capture_output=True, check=False)
        if mounts.returncode != 0:
            self.skipTest('no mount namespaces here')
        mapper._prefix = ['unshare', '-m', '--propagation', 'private', 'sh', '-c',
                          f'mount -t tmpfs -o size=2m small {place} && exec "$@"', 'sh']
        mapper.start()
        nodes = []
        try:
            for number in range(REGISTRATIONS_MAX):
                connection, reply = mapper.alive2(b'node%d' % number, port=number + 1, extra=b'e' * 900)
                if harness.alive2_result(reply)[0] != 0:
                    connection.close()
                    break
                nodes.append(connection)
            self.assertGreater(len(nodes), 0)
            self.assertLess(len(nodes), 4096)
            for number in range(len(nodes)):
                self.assertEqual(mapper.lookup(b'node%d' % number).port, number + 1)
            nodes.pop().close()
            mapper.wait_gone(b'node%d' % len(nodes))
            # What was left behind serves the next.
            connection, _ = mapper.register(b'node%d' % len(nodes), port=1, extra=b'e' * 900)
            nodes.append(connection)
            self.assertTrue(mapper.alive())
        finally:
            for connection in nodes:
                connection.close()


if __name__ == '__main__':
    unittest.main()
