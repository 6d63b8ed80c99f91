"""The Debian packages over Debian's erlang-base: installed, upgraded, removed, with nodes and services running.

    EVERMAP_DEBS   directory with the packages that packaging/build-deb made (default: build-deb)

Everything happens in a sandbox with a systemd of its own.
"""

import os
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import ROOT
from harness.package import PackageCase, deb

class PackageTest(PackageCase):

    def test_files_and_diversions(self):
        """Without a running service: what lies where after installation, purge, and each once more."""
        self.start_sandbox()
        before = self.files()
        self.assertFalse(self.is_ours())
        for _ in range(2):
            self.install()
            self.assertTrue(self.is_ours())
            # Whatever way Erlang starts it.
            self.assertTrue(self.is_ours('/usr/lib/erlang/bin/epmd'))
            self.assertTrue(self.is_ours('/usr/lib/erlang/erts-*/bin/epmd'))
            self.assertIn('RuntimeDirectory', self.run_inside('cat /lib/systemd/system/epmd.service'))
            self.assertEqual(self.run_inside('dpkg --verify erlang-base evermap'), '')
            self.assertEqual(self.run_inside('dpkg-divert --truename /usr/bin/epmd'), '/usr/bin/epmd.stock')
            self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'active')
            self.run_inside('getent passwd epmd')
            self.run_inside('dpkg --remove evermap')
            self.assertFalse(self.is_ours())
            self.run_inside('dpkg --purge evermap')
            self.assertEqual(self.strip_enabled(self.files()), self.strip_enabled(before))

    @staticmethod
    def strip_enabled(files):
        """Whether the units are enabled is for erlang-base: the sandbox starts with none."""
        return [line for line in files.splitlines() if not line.startswith('/etc/systemd/system/')]

    def test_new_erlang(self):
        """An upgrade of Erlang brings an epmd in another directory."""
        self.start_sandbox()
        self.install()
        self.run_inside('mkdir -p /usr/lib/erlang/erts-99.0/bin; cp /usr/lib/erlang/erts-1*/bin/epmd.stock /usr/lib/erlang/erts-99.0/bin/epmd')
        self.run_inside('dpkg-trigger --no-await /usr/lib/erlang; dpkg --triggers-only --pending')
        self.assertTrue(self.is_ours('/usr/lib/erlang/erts-99.0/bin/epmd'))
        self.run_inside('rm /usr/lib/erlang/erts-99.0/bin/epmd.stock; dpkg-trigger --no-await /usr/lib/erlang; dpkg --triggers-only --pending')
        self.assertEqual(self.run_inside('ls -d /usr/lib/erlang/erts-99.0', check=False), "ls: cannot access '/usr/lib/erlang/erts-99.0': No such file or directory")
        self.assertNotIn('99.0', self.run_inside('dpkg-divert --list'))
        self.run_inside('dpkg --remove evermap')
        self.assertNotIn('evermap', self.run_inside('dpkg-divert --list'))

    def test_removed_and_installed_again(self):
        """Without a purge: dpkg remembers the version that was there, and Erlang's own serves meanwhile."""
        self.start_sandbox()
        self.install()
        self.run_inside('dpkg --remove evermap')
        self.run_inside('systemctl daemon-reload; systemctl start epmd.service')
        self.assertIn('/erlang/', self.running())
        self.install()
        self.assertEqual(self.running(), '/usr/bin/epmd')

    def test_over_the_stock_one_that_runs(self):
        """A node that is registered with the stock epmd, and a service that requires it, live through installation and removal."""
        self.start_sandbox()
        self.run_inside('systemctl start epmd.socket epmd.service')
        node = self.start_node('hare')
        self.assertIn('/erlang/', self.running())
        self.install()
        self.assertEqual(self.running(), '/usr/bin/epmd')
        self.wait_registered('hare')  # comes back by itself, as OTP 24 and later do
        self.assertEqual(self.main_pid('hare'), node)
        self.assertEqual(self.run_inside('ls /run/systemd/system | grep epmd', check=False), '')
        second = self.start_node('rabbit')
        self.run_inside('dpkg --remove evermap')
        self.assertIn('/erlang/', self.running())
        self.wait_registered('hare', 'rabbit')
        self.assertEqual((self.main_pid('hare'), self.main_pid('rabbit')), (node, second))

    def test_upgrade(self):
        newer = self.repack('99.0')
        self.start_sandbox()
        self.install()
        node = self.start_node('hare')
        creation = self.run_inside('epmdctl --json --registry /run/evermap/registry.4369 lookup hare | grep creation')
        mapper = self.main_pid('epmd.service')
        for path in (newer, newer, self.deb):
            self.install(path)
            # At once, not after it has come back.
            self.assertEqual(self.names(), {'hare'})
            self.assertNotEqual(self.main_pid('epmd.service'), mapper)
            mapper = self.main_pid('epmd.service')
        self.assertEqual(self.main_pid('hare'), node)
        self.assertEqual(self.run_inside('epmdctl --json --registry /run/evermap/registry.4369 lookup hare | grep creation'), creation)
        self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'active')
        self.assertEqual(self.sandbox.property('epmd.service', 'NRestarts'), '0')

    def test_upgrade_to_one_that_does_not_start(self):
        broken = self.repack('99.0', 'printf "#!/bin/sh\\nexit 1\\n" >usr/bin/epmd')
        self.start_sandbox()
        self.install()
        node = self.start_node('hare')
        client = '/usr/lib/erlang/erts-*/bin/epmd.stock'
        mapper = self.main_pid('epmd.service')
        self.assertIn('could not be upgraded', self.install(broken))
        self.assertEqual(self.main_pid('epmd.service'), mapper)
        self.assertIn('name hare at port', self.run_inside(f'{client} -names'))
        self.assertEqual(self.main_pid('hare'), node)
        self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'active')
        self.install()
        self.assertEqual(self.names(), {'hare'})
        self.assertEqual(self.main_pid('hare'), node)

    def test_without_erlang(self):
        """For hosts whose releases bring their own."""
        self.start_sandbox()
        self.run_inside('systemctl stop epmd.socket; dpkg --remove --force-depends erlang-base')
        self.install()
        self.assertEqual(self.running(), '/usr/bin/epmd')
        self.assertEqual(self.names(), set())
        self.run_inside('dpkg --remove evermap')
        self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'inactive')
        self.run_inside('dpkg --purge evermap')
        self.assertEqual(self.run_inside('find /etc/systemd /lib/systemd/system -name "epmd*"'), '')
        self.assertEqual(self.run_inside('dpkg-divert --list | grep evermap', check=False), '')

    def test_exporter(self):
        exporter = deb('evermap-exporter')
        self.start_sandbox()
        self.install()
        # What it depends on is on this machine, as it was built here.
        self.install(exporter)
        self.start_node('hare')
        harness.wait_until(lambda: 'evermap_names{state="live"} 1' in
                           self.run_inside('curl -s http://127.0.0.1:14369/metrics', check=False), 'the node is shown')
        self.assertEqual(self.run_inside('ps -o user= -C epmd-exporter | grep -c root', check=False), '0')

    def test_library(self):
        """Programs are built against it and find nodes."""
        self.install_library = [deb('libevermap1'), deb('libevermap-dev')]
        self.start_sandbox()
        self.install()
        self.install(' '.join(self.install_library))
        self.start_node('hare')
        # The example of evermap(3).
        self.run_inside('cd /root; zcat /usr/share/man/man3/evermap.3.gz | sed -n \'/^.SH EXAMPLES/,$p\' | '
                        'sed -n \'/^.nf/,/^.fi/p\' | grep -v \'^[.]\' | sed \'s/\\\\e/\\\\/g\' >lookup.c; '
                        'cc lookup.c $(pkg-config --cflags --libs evermap) -o lookup')
        self.assertRegex(self.run_inside('/root/lookup hare nobody'), r'^hare: port \d+\nnobody: not registered$')

    def test_erlang(self):
        """In the code path of every erl, and found by kernel."""
        self.start_sandbox()
        self.install()
        self.install(deb('erlang-evermap'))
        self.start_node('hare')
        said = self.run_inside("erl -noshell -sname fox -epmd_module evermap_epmd -eval "
                               "'io:format(\"~0p ~0p~n\", [evermap:lookup(hare), evermap:info()]), halt().'")
        self.assertIn('source => registry', said)
        self.assertIn('/run/evermap/registry.4369', said)


class UseEvermapTest(unittest.TestCase):
    """Releases that bring their own epmd."""

    TOOL = os.path.join(ROOT, 'packaging', 'tools', 'use-evermap')

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-release-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.epmd = self.make_release('web')

    def make_release(self, name):
        bin_directory = os.path.join(self.directory, name, 'erts-13.1.5', 'bin')
        os.makedirs(bin_directory)
        path = os.path.join(bin_directory, 'epmd')
        with open(path, 'w') as file:
            file.write('its own')
        os.chmod(path, 0o755)
        return path

    @unittest.skipUnless(os.geteuid() == 0, 'needs root')
    def test_root_is_not_led_elsewhere(self):
        """By links that the owner of a release has made in it."""
        os.chmod(self.directory, 0o755)
        victim = os.path.join(self.directory, 'victim')
        with open(victim, 'w') as file:
            file.write('of root')
        os.chmod(victim, 0o600)
        release = os.path.join(self.directory, 'web')
        for path, folders, files in os.walk(release):
            for entry in ('.', *folders, *files):
                os.chown(os.path.join(path, entry), 65533, 65533)
        for suffix in ('.stock', '.new'):
            os.symlink(victim, self.epmd + suffix)
            # Whoever may run the tool may run what it names.
            self.use('web', epmd='/bin/true', code=1)
            with open(victim) as file:
                self.assertEqual(file.read(), 'of root')
            self.assertEqual(os.stat(victim).st_uid, 0)
            os.unlink(self.epmd + suffix)
        self.use('web', epmd='/bin/true')
        self.assertEqual({os.stat(self.epmd).st_uid, os.stat(self.epmd + '.stock').st_uid}, {65533})

    def use(self, *arguments, code=0, epmd=None):
        done = subprocess.run([self.TOOL, *arguments], cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, env={**os.environ, 'EVERMAP_EPMD': epmd or harness.EPMD}, check=False)
        self.assertEqual(done.returncode, code, done)
        return done

    def state(self, path=None):
        path = path or self.epmd
        content = []
        for name in sorted(os.listdir(os.path.dirname(path))):
            file = os.path.join(os.path.dirname(path), name)
            with open(file) as text:
                content.append((name, text.read(), os.lstat(file).st_mode))
        return content

    def starts_ours(self, path=None):
        return b'Evermap' in subprocess.run([path or self.epmd, '-version'], capture_output=True, check=False).stdout

    def test_there_and_back(self):
        original = self.state()
        self.use('web')
        self.assertTrue(self.starts_ours())
        replaced = self.state()
        self.assertEqual(self.use('web').stdout, '')  # idempotent
        self.assertEqual(self.state(), replaced)
        self.use('--undo', 'web')
        self.assertEqual(self.state(), original)
        self.assertEqual(self.use('--undo', 'web').stdout, '')
        self.assertEqual(self.state(), original)

    def test_deployed_anew(self):
        self.use('web')
        with open(harness.EPMD, 'rb') as file:
            ours = file.read()
        # Over itself, as cp does it: the file that is there is written to.
        with open(self.epmd, 'w') as file:
            file.write('its newer own')
        with open(harness.EPMD, 'rb') as file:
            self.assertEqual(file.read(), ours)
        self.use('web')
        self.assertTrue(self.starts_ours())
        self.use('--undo', 'web')
        with open(self.epmd) as file:
            self.assertEqual(file.read(), 'its newer own')

    def test_undo_after_a_deployment(self):
        self.use('web')
        with open(self.epmd, 'w') as file:
            file.write('its newer own')
        self.use('--undo', 'web')
        self.assertEqual([(name, text) for name, text, _ in self.state()], [('epmd', 'its newer own')])

    def test_one_file_anywhere(self):
        """As it comes in an archive; and that file alone somewhere else."""
        for directory in ('sbin', 'bin', 'deploy'):
            os.makedirs(os.path.join(self.directory, 'local', directory))
        tool = shutil.copy(self.TOOL, os.path.join(self.directory, 'local', 'sbin'))
        by_itself = {name: value for name, value in os.environ.items() if name != 'EVERMAP_EPMD'}
        done = subprocess.run([tool, 'web'], cwd=self.directory, env=by_itself, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr.count('\n')), (1, 1), done)
        installed = shutil.copy(harness.EPMD, os.path.join(self.directory, 'local', 'bin', 'epmd'))
        subprocess.run([tool, 'web'], cwd=self.directory, env=by_itself, stdout=subprocess.DEVNULL, check=True)
        self.assertTrue(self.starts_ours())
        self.use('--undo', 'web')
        deployed = os.path.join(self.directory, 'local', 'deploy', 'epmd')
        os.rename(installed, deployed)
        original = self.state()
        self.use('web', epmd=os.path.relpath(deployed, self.directory), code=1)
        self.assertEqual(self.state(), original)
        self.use('web', epmd=deployed)
        self.assertTrue(self.starts_ours())

    def test_several(self):
        other = self.make_release('telnet')
        self.use('web', 'telnet')
        self.assertTrue(self.starts_ours() and self.starts_ours(other))

    def test_wrong(self):
        self.use(code=2)
        self.use('--nonsense', code=2)
        self.assertIn('no erts', self.use(self.directory, code=1).stderr)
        self.assertIn('/nowhere/epmd', self.use('web', epmd='/nowhere/epmd', code=1).stderr)
        with open(self.epmd) as file:
            self.assertEqual(file.read(), 'its own')


if __name__ == '__main__':
    unittest.main()
