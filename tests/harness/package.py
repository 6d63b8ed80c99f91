"""A test case with the Debian packages, in a sandbox with a systemd of its own.

    EVERMAP_DEBS   directory with the packages that packaging/build-deb made (default: build-deb, and build-deb-SUITE for
                   those of another release)
    EVERMAP_ARCHIVES  directory with the archives that packaging/build-archive made (default: build-archive)
"""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness.environment import ROOT, tree
from harness.process import wait_until
from harness.systemd_sandbox import SystemdSandbox

ARCHIVES = os.environ.get('EVERMAP_ARCHIVES') or os.path.join(ROOT, 'build-archive')
DEBS = os.environ.get('EVERMAP_DEBS') or os.path.join(ROOT, 'build-deb')

# What the package has in common with erlang-base.
SHARED_PATHS = ('/usr/bin/epmd', '/lib/systemd/system/epmd.service', '/lib/systemd/system/epmd.socket',
                '/usr/share/man/man1/epmd.1.gz', '/usr/lib/erlang/erts-*/bin/epmd')

# A node under systemd. With the dependency that ejabberd's unit has it is stopped or restarted whenever epmd.service is.
NODE_SERVICE = '''
[Unit]
{dependency}=epmd.service
After=epmd.service
[Service]
Environment=HOME=/root
ExecStart=/usr/bin/erl -noshell -sname {name} -setcookie test
'''


def archives(machine='*'):
    """The archives for a machine as uname names it, or for all; by name."""
    found = sorted(glob.glob(os.path.join(ARCHIVES, f'evermap-*-linux-{machine}.tar.gz')))
    if not found:
        raise unittest.SkipTest(f'no archive in {ARCHIVES}: run packaging/build-archive')
    return found


def deb(package, suite=None):
    directory = DEBS + (f'-{suite}' if suite else '')
    found = glob.glob(os.path.join(directory, f'{package}_*.deb'))
    if len(found) != 1:
        raise unittest.SkipTest(f'no package {package} in {directory}: run packaging/build-deb' + (f' --in {suite}' if suite else ''))
    return found[0]


class PackageCase(unittest.TestCase):
    """A test with the package, a sandbox to install it in, and what to ask for there.

    suite: the release of Debian that the sandbox has, from tools/project/tree; None: this machine's.
    """

    suite = None
    sandbox = None

    def setUp(self):
        self.deb = deb('evermap', self.suite)
        # A path that the sandbox sees: its files are those of the machine at the moment of its start.
        self.directory = tempfile.mkdtemp(prefix='evermap-package-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)

    def start_sandbox(self, bound=()):
        """bound: more directories of this machine that are seen inside."""
        if self.suite is None:
            sandbox = SystemdSandbox()
        else:
            sandbox = SystemdSandbox(tree(self.suite, 'run'), [self.directory, os.path.dirname(self.deb), *bound])
        self.addCleanup(sandbox.close)
        self.sandbox = sandbox.__enter__()
        if self.run_inside("dpkg-query -W -f '${db:Status-Status}' erlang-base", check=False) != 'installed':
            self.skipTest('no erlang-base here')
        return self.sandbox

    def run_inside(self, script, check=True, **options):
        return self.sandbox.run(script, check=check, **options).stdout.strip()

    def repack(self, version, change='true', package=None):
        """The package with another version, and changed by a script that runs in its root."""
        package = package or self.deb
        name = os.path.basename(package).split('_')[0]
        root = os.path.join(self.directory, f'{name}-{version}')
        path = os.path.join(self.directory, f'{name}-{version}.deb')
        subprocess.run(['dpkg-deb', '--raw-extract', package, root], check=True)
        control = os.path.join(root, 'DEBIAN', 'control')
        with open(control) as file:
            text = re.sub(r'(?m)^Version: .*$', f'Version: {version}', file.read())
        with open(control, 'w') as file:
            file.write(text)
        subprocess.run(['sh', '-ec', change], cwd=root, check=True)
        subprocess.run(['rm', '-f', os.path.join(root, 'DEBIAN', 'md5sums')], check=True)
        subprocess.run(['dpkg-deb', '--root-owner-group', '--build', root, path], check=True, stdout=subprocess.DEVNULL)
        return path

    def files(self):
        """Type, mode, owner and content of the shared paths, and what erlang-base says of its own files."""
        return self.run_inside(
            f'for path in {" ".join(SHARED_PATHS)}; do stat -c "%F %a %U %N" $path; [ -L $path ] || md5sum $path; done; '
            'dpkg --verify erlang-base; dpkg-divert --list "*epmd*"; find / -xdev -name "epmd*.stock*" 2>/dev/null; '
            'find /etc/systemd/system -name "epmd*"', check=False)

    def start_node(self, name, dependency='Requires'):
        path = f'/run/systemd/system/{name}.service'
        unit = NODE_SERVICE.format(name=name, dependency=dependency)
        self.run_inside(f"cat >{path} <<'END'\n{unit}\nEND\nsystemctl daemon-reload; systemctl start {name}")
        self.wait_registered(name)
        return self.main_pid(name)

    def main_pid(self, unit):
        return int(self.sandbox.property(unit, 'MainPID'))

    def names(self):
        return set(re.findall(r'^name (\S+) at port', self.run_inside('epmd -names', check=False), re.M))

    def wait_registered(self, *names):
        wait_until(lambda: self.names() >= set(names), lambda: f'{names} are registered: {self.names()}')

    def is_ours(self, path='/usr/bin/epmd'):
        return 'Evermap' in self.run_inside(f'timeout 5 {path} -version', check=False)

    def running(self):
        return self.run_inside(f'readlink /proc/{self.main_pid("epmd.service")}/exe')

    def install(self, path=None, check=True):
        return self.run_inside(f'dpkg --install {path or self.deb}', check=check)
