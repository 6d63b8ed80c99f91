"""The programs of one file where nothing else is: in an empty directory, beside busybox, in a Debian 13 tree, and on this machine
with a module for users that is made for its own C library. Needs root.

    STATIC_PROGRAMS=DIRECTORY ONLY_PROGRAM=FILE python3 tests/packaging/static_test.py

STATIC_PROGRAMS has epmd and epmdctl of a build with -Dstatic=true; ONLY_PROGRAM is
tests/fixtures/only_program.cc, linked with -static.
"""

import os
import shutil
import subprocess
import tempfile
import unittest

PROGRAMS = os.environ['STATIC_PROGRAMS']
DRIVER = os.environ['ONLY_PROGRAM']
DEBIAN_13 = os.path.expanduser('~/.cache/evermap/bare/trixie.tar')
STEPS = 8


@unittest.skipUnless(os.geteuid() == 0, 'needs root')
class StaticTest(unittest.TestCase):

    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix='evermap-static-')
        self.addCleanup(shutil.rmtree, self.tree)

    def put_programs(self, directory):
        inside = os.path.join(self.tree, directory)
        os.makedirs(inside, exist_ok=True)
        os.makedirs(os.path.join(self.tree, 'tmp'), exist_ok=True)
        for program in ('epmd', 'epmdctl'):
            shutil.copy(os.path.join(PROGRAMS, program), inside)
        shutil.copy(DRIVER, os.path.join(inside, 'driver'))

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

    @unittest.skipUnless(shutil.which('busybox'), 'no busybox')
    def test_beside_busybox(self):
        self.put_programs('home/deploy')
        os.makedirs(os.path.join(self.tree, 'bin'))
        shutil.copy(shutil.which('busybox'), os.path.join(self.tree, 'bin', 'sh'))
        self.assertEqual(self.run_inside('/bin/sh', '-c', '/home/deploy/epmd -port 4370 -names').returncode, 1)
        self.check('home/deploy')

    @unittest.skipUnless(os.path.exists(DEBIAN_13), 'no Debian 13: tools/project/bare trixie')
    def test_debian_13(self):
        subprocess.run(['tar', '-C', self.tree, '-xf', DEBIAN_13], check=True)
        self.put_programs('usr/local/bin')
        self.check('usr/local/bin')

    def test_users_of_systemd(self):
        """With the module in nsswitch.conf the C library would end the program by SIGSEGV."""
        switch = os.path.join(self.tree, 'nsswitch.conf')
        with open(switch, 'w') as file:
            file.write('passwd: systemd\n')
        script = (f'mount --bind {switch} /etc/nsswitch.conf; '
                  f'exec {PROGRAMS}/epmd -port 4371 -registry {self.tree}/registry -reserve one=nobody-of-that-name')
        done = subprocess.run(['unshare', '--mount', '--net', 'sh', '-c', script], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn('a user that this host does not know', done.stdout)


if __name__ == '__main__':
    unittest.main()
