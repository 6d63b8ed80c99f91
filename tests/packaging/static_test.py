"""Archives of programs of one file, and these programs where nothing else is: in an empty directory, beside busybox, in a Debian
13 tree, and on this machine with a module for users that is made for its own C library. Needs root.

    EVERMAP_ARCHIVES  directory with the archives that packaging/build-archive made (default: build-archive)
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest

from harness import ROOT
from harness.environment import UNPACKED, tree
from harness.package import archives

COMMANDS = ('epmd', 'epmdctl', 'epmd-bench')
COMPLETED = ('epmdctl', 'epmd-bench', 'use-evermap')
DOC = 'share/doc/evermap'
FILES = {
    *(f'bin/{command}' for command in COMMANDS), 'sbin/use-evermap', 'lib/systemd/system/epmd.service',
    'lib/systemd/system/epmd.socket', 'lib/sysusers.d/evermap.conf',
    *(f'share/man/man1/{command}.1' for command in COMMANDS), 'share/man/man5/epmd.conf.5', 'share/man/man5/evermap-registry.5',
    'share/man/man8/use-evermap.8',
    'share/zsh/site-functions/_evermap',
    *(f'share/bash-completion/completions/{command}' for command in ('epmd', *COMPLETED)),
    *(f'share/fish/vendor_completions.d/{command}.fish' for command in ('epmd', *COMPLETED)),
    *(f'{DOC}/{name}' for name in ('README.md', 'CHANGELOG.md', 'LICENSE', 'static.md', 'BUILT-WITH', 'SHA256SUMS')),
    *(f'{DOC}/licences/{name}' for name in (
        'libc6', 'libstdc++6', 'liburing2', 'libabsl-dev', 'libcli11-dev', 'nlohmann-json3-dev',
        'Apache-2.0', 'GPL-2', 'GPL-3', 'LGPL-2.1', 'LGPL-3')),
}
STEPS = 8
BUSYBOX = os.path.join(UNPACKED, 'bin/busybox')  # with no library either


class ArchiveTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-archive-')
        self.addCleanup(shutil.rmtree, self.directory)

    def each(self):
        for path in archives():
            name = os.path.basename(path).removesuffix('.tar.gz')
            with tarfile.open(path) as archive:
                archive.extractall(self.directory)
                yield archive, os.path.join(self.directory, name)

    def test_files(self):
        for archive, root in self.each():
            members = archive.getmembers()
            self.assertEqual({os.path.relpath(member.name, os.path.basename(root)) for member in members if not member.isdir()}, FILES)
            self.assertEqual({(member.uid, member.gid) for member in members}, {(0, 0)})
            self.assertEqual({member.mtime for member in members}, {members[0].mtime})
            for path in FILES:
                self.assertTrue(os.path.exists(os.path.join(root, path)), path)
            with open(os.path.join(root, 'lib/systemd/system/epmd.service')) as unit:
                self.assertIn('ExecStart=/usr/local/bin/epmd -systemd', unit.read())

    def test_checksums(self):
        for _, root in self.each():
            with open(os.path.join(root, DOC, 'SHA256SUMS')) as file:
                sums = dict(reversed(line.rstrip('\n').split('  ', 1)) for line in file)
            links = {path for path in FILES if os.path.islink(os.path.join(root, path))}
            self.assertEqual(set(sums), FILES - links - {f'{DOC}/SHA256SUMS'})
            for path, expected in sums.items():
                with open(os.path.join(root, path), 'rb') as file:
                    self.assertEqual(hashlib.sha256(file.read()).hexdigest(), expected, path)
        directory = os.path.dirname(archives()[0])
        subprocess.run(['sha256sum', '--quiet', '-c', 'SHA256SUMS'], cwd=directory, check=True)

    def test_programs(self):
        """Position-independent, with nothing to load, stripped; what is written once is read-only afterwards."""
        for _, root in self.each():
            machine = {'x86_64': 'X86-64', 'aarch64': 'AArch64'}[root.rsplit('-', 1)[1]]
            for command in COMMANDS:
                said = subprocess.run(['readelf', '-W', '-h', '-l', '-S', '-d', os.path.join(root, 'bin', command)],
                                      stdout=subprocess.PIPE, text=True, check=True).stdout
                self.assertRegex(said, rf'Machine: .*{machine}')
                self.assertRegex(said, r'Type: +DYN')
                self.assertIn('FLAGS_1', said)
                self.assertRegex(said, r'Flags: .*NOW.*PIE')
                self.assertIn('GNU_RELRO', said)
                self.assertRegex(said, r'GNU_STACK .* RW ')
                for absent in ('INTERP', '(NEEDED)', '.symtab', '.debug_info', ' RWE '):
                    self.assertNotIn(absent, said)


@unittest.skipUnless(os.geteuid() == 0, 'needs root')
class StaticTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        archive = archives(os.uname().machine)[-1]
        cls.unpacked = tempfile.mkdtemp(prefix='evermap-static-')
        cls.addClassCleanup(shutil.rmtree, cls.unpacked)
        subprocess.run(['tar', '-C', cls.unpacked, '--strip-components=1', '-xzf', archive], check=True)
        cls.programs = os.path.join(cls.unpacked, 'bin')
        cls.driver = os.path.join(cls.unpacked, 'driver')
        subprocess.run(['g++', '-std=c++20', '-static', '-o', cls.driver, os.path.join(ROOT, 'tests/fixtures/only_program.cc')],
                       check=True)

    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix='evermap-static-')
        self.addCleanup(shutil.rmtree, self.tree)

    def put_programs(self, directory):
        inside = os.path.join(self.tree, directory)
        os.makedirs(inside, exist_ok=True)
        os.makedirs(os.path.join(self.tree, 'tmp'), exist_ok=True)
        for program in ('epmd', 'epmdctl'):
            shutil.copy(os.path.join(self.programs, program), inside)
        shutil.copy(self.driver, inside)

    def run_inside(self, *command):
        return subprocess.run(
            ['unshare', '--pid', '--fork', '--kill-child', '--net', '--ipc', 'chroot', self.tree, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)

    def check(self, directory):
        done = self.run_inside(f'/{directory}/driver', f'/{directory}')
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(sum(line.startswith('ok: ') for line in done.stdout.splitlines()), STEPS, done.stdout)

    def test_empty_directory(self):
        self.put_programs('bin')
        self.check('bin')
        files = {os.path.relpath(os.path.join(at, name), self.tree) for at, _, names in os.walk(self.tree) for name in names}
        self.assertEqual({name for name in files if not name.startswith('tmp/')}, {'bin/epmd', 'bin/epmdctl', 'bin/driver'})

    @unittest.skipUnless(os.path.exists(BUSYBOX), 'no static busybox here (tools/setup unpacks it)')
    def test_beside_busybox(self):
        self.put_programs('home/deploy')
        os.makedirs(os.path.join(self.tree, 'bin'))
        shutil.copy(BUSYBOX, os.path.join(self.tree, 'bin', 'sh'))
        self.assertEqual(self.run_inside('/bin/sh', '-c', '/home/deploy/epmd -port 4370 -names').returncode, 1)
        self.check('home/deploy')

    def test_debian_13(self):
        subprocess.run(['cp', '-a', tree('trixie', 'bare') + '/.', self.tree], check=True)
        self.put_programs('usr/local/bin')
        self.check('usr/local/bin')

    def test_users_of_systemd(self):
        """With the module in nsswitch.conf the C library would end the program by SIGSEGV."""
        switch = os.path.join(self.tree, 'nsswitch.conf')
        with open(switch, 'w') as file:
            file.write('passwd: systemd\n')
        script = (f'mount --bind {switch} /etc/nsswitch.conf; '
                  f'exec {self.programs}/epmd -port 4371 -registry {self.tree}/registry -reserve one=nobody-of-that-name')
        done = subprocess.run(['unshare', '--mount', '--net', 'sh', '-c', script], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn('a user that this host does not know', done.stdout)


if __name__ == '__main__':
    unittest.main()
