"""The package over each release's erlang-base, with a systemd and a node of that release: whatever happens to Erlang's package,
or to the whole of Debian, the node stays registered.

    EVERMAP_DEBS   as in harness.package, with -SUITE: packaging/build-deb --in SUITE
The trees: tools/project/tree make SUITE run. A release whose tree or packages are not there is left out.
"""

import glob
import os
import subprocess
import unittest

import harness
from harness.environment import tree
from harness.package import PackageCase, deb

# What has a connection of the node's to its mapper: it is the same one as long as the mapper, or who keeps its connections, has
# not let it go.
CONNECTION = "ss -Htnp state established '( dport = :4369 )' | awk '/\"beam/ { print $3 }'"


def erlang_base(suite):
    """Erlang's package as it was fetched for the tree."""
    found = glob.glob(os.path.join(os.path.dirname(tree(suite, 'run')), f'{suite}.packages', 'erlang-base_*.deb'))
    if not found:
        raise unittest.SkipTest(f'no erlang-base for {suite} here')
    return max(found, key=os.path.getmtime)


class ErlangCase(PackageCase):
    """With a node whose connection to the mapper is watched."""

    def setUp(self):
        super().setUp()
        self.erlang = erlang_base(self.suite)
        # Inside, this directory is seen.
        copy = os.path.join(self.directory, os.path.basename(self.erlang))
        with open(self.erlang, 'rb') as package, open(copy, 'wb') as file:
            file.write(package.read())
        self.erlang = copy

    def start_with_node(self):
        if self.sandbox is None:
            self.start_sandbox()
        self.install()
        # Not Requires=: what requires the mapper is restarted by erlang-base's scripts, whoever's the mapper is.
        self.node = self.start_node('hare', 'Wants')
        # It is stored when it has lived for a second.
        harness.wait_until(lambda: self.stored() >= 1, 'the connection is stored')
        self.creation = self.creation_of('hare')
        self.connection = self.run_inside(CONNECTION)
        self.assertRegex(self.connection, r'^\S+:\d+$')

    def stored(self):
        # Some more are the registry's files and the listening sockets.
        return int(self.sandbox.property('epmd.service', 'NFileDescriptorStore')) - 2

    def creation_of(self, name):
        return self.run_inside(f'epmdctl --json lookup {name} | grep creation')

    def check_kept(self):
        """Nobody has noticed."""
        self.assertEqual(self.names(), {'hare'})
        self.assertEqual(self.run_inside(CONNECTION), self.connection)
        self.check_ours()

    def check_back(self):
        """The connection was let go, and the node has come back by itself."""
        harness.wait_until(lambda: self.run_inside(CONNECTION), 'the node is connected again')
        self.wait_registered('hare')
        self.check_ours()

    def check_ours(self):
        self.assertEqual(self.main_pid('hare'), self.node)
        self.assertEqual(self.creation_of('hare'), self.creation)
        self.assertTrue(self.is_ours())
        self.assertEqual(self.running(), '/usr/bin/epmd')
        self.assertIn('RuntimeDirectory=evermap', self.run_inside('systemctl cat epmd.service'))
        self.assertEqual(self.run_inside('systemctl is-active epmd.service epmd.socket'), 'active\nactive')
        self.assertEqual(self.run_inside('systemctl is-enabled epmd.service epmd.socket'), 'enabled\nenabled')
        self.run_inside('getent passwd evermap')
        self.assertEqual(self.run_inside('dpkg --verify evermap'), '')
        self.assertIn('hare', self.run_inside('epmdctl list'))

    def check_restart(self):
        """A restart later finds all that it needs."""
        self.run_inside('systemctl --job-mode=ignore-dependencies restart epmd.service')
        self.assertEqual(self.names(), {'hare'})
        self.check_ours()

    def newer_erlang(self):
        version = subprocess.check_output(['dpkg-deb', '-f', self.erlang, 'Version'], text=True).strip() + '+newer'
        return self.repack(version, 'cd usr/lib/erlang; old=$(echo erts-*); mv "$old" erts-99.1; '
                           'sed -i "s|$old|erts-99.1|g" bin/erl bin/start 2>/dev/null; '
                           'for link in $(find ../.. -type l -lname "*$old*"); do '
                           'ln -snf "$(readlink "$link" | sed "s|$old|erts-99.1|")" "$link"; done', package=self.erlang)


class OverErlang:
    """What happens to Erlang's package."""

    def test_erlang_reinstalled(self):
        self.start_with_node()
        self.install(self.erlang)
        self.check_kept()
        self.check_restart()

    def test_erlang_upgraded(self):
        newer = self.newer_erlang()
        self.start_with_node()
        self.install(newer)
        self.check_kept()
        self.assertTrue(self.is_ours('/usr/lib/erlang/erts-99.1/bin/epmd'))
        self.assertTrue(self.is_ours('/usr/lib/erlang/bin/epmd'))

    def test_erlang_removed_and_purged(self):
        self.start_with_node()
        self.run_inside('dpkg --remove --force-depends erlang-base')
        self.check_back()
        self.connection = self.run_inside(CONNECTION)
        self.run_inside('dpkg --purge erlang-base')
        self.assertEqual(self.run_inside('getent passwd epmd', check=False), '')
        self.assertEqual(self.run_inside(CONNECTION), self.connection)
        # At boot, or with the next Erlang.
        self.run_inside('systemctl start evermap-repair.service')
        self.check_kept()
        self.check_restart()

    def test_erlang_purged_and_installed(self):
        self.start_with_node()
        self.run_inside('dpkg --purge --force-depends erlang-base')
        self.check_back()
        self.install(self.erlang)
        self.wait_registered('hare')
        self.check_ours()

    def test_diversions_lost(self):
        """As by a package of Evermap that does not know where this release's Erlang has its units."""
        self.start_with_node()
        self.run_inside('for path in /usr/bin/epmd $(echo {/usr,}/lib/systemd/system/epmd.{service,socket} 2>/dev/null); do '
                        'dpkg-divert --no-rename --remove $path; done; '
                        'for unit in epmd.service epmd.socket; do for usr in "" /usr; do '
                        'dpkg-divert --no-rename --remove $usr/lib/systemd/system/$unit; done; done')
        said = self.install(f'--force-overwrite {self.erlang}')
        self.assertIn("evermap: /usr/bin/epmd is Evermap's again", said)
        self.assertIn("evermap: /usr/lib/systemd/system/epmd.service is Evermap's again", said)
        self.wait_registered('hare')
        self.check_ours()
        self.assertEqual(self.run_inside('dpkg-divert --truename /usr/bin/epmd'), '/usr/bin/epmd.stock')
        self.run_inside('dpkg --remove evermap')
        self.assertFalse(self.is_ours())
        self.assertEqual(self.run_inside('dpkg --verify erlang-base; dpkg-divert --list | grep evermap', check=False), '')

    def test_disabled_stays_disabled(self):
        self.start_with_node()
        self.run_inside('systemctl disable epmd.service epmd.socket; /usr/lib/evermap/repair')
        self.run_inside('dpkg --purge --force-depends erlang-base')
        self.run_inside('systemctl start evermap-repair.service')
        self.assertNotIn('enabled', self.run_inside('systemctl is-enabled epmd.service epmd.socket', check=False).splitlines())

    def test_told_to_end(self):
        """A stranger's SIGTERM costs nothing, and who requires the mapper is left alone; `epmd -kill` and a stop are obeyed."""
        self.start_with_node()
        mapper = self.main_pid('epmd.service')
        self.run_inside(f'kill {mapper}')
        harness.wait_until(lambda: self.main_pid('epmd.service') not in (0, mapper), 'it is started again')
        self.check_kept()
        self.run_inside('systemctl stop hare epmd.socket')
        harness.wait_until(lambda: not self.names(), 'the node is gone')
        self.run_inside('epmd -kill')
        harness.wait_until(lambda: self.sandbox.property('epmd.service', 'ActiveState') == 'inactive', 'it stays ended')


    def test_another_mapper_of_root(self):
        """On another port, for a node that is started by hand, beside the service, whose directory is the service's."""
        self.start_with_node()
        said = self.run_inside('ERL_EPMD_PORT=4370 erl -noshell -sname fox '
                               '-eval \'io:format("~p", [erl_epmd:names({127,0,0,1})]), halt().\'')
        self.assertRegex(said, r'\{ok,\[\{"fox",\d+\}\]\}')
        self.assertIn('port 4370', self.run_inside('epmd -port 4370 -names'))
        self.assertIn('fox', self.run_inside('epmdctl --port 4370 list --all'))
        self.assertIn('hare', self.run_inside('epmdctl list'))
        self.run_inside('epmd -port 4370 -kill')
        self.check_kept()


class UpgradeTest(ErlangCase):
    suite = 'bookworm'

    def test_debian_upgraded(self):
        """To the next release, with both packages installed, in the order in which apt does it; then Evermap's own package for it."""
        newer = deb('evermap', 'trixie')
        trees = os.path.dirname(tree(self.suite, 'run'))
        if not os.path.exists(f'{trees}/trixie.lists/.from-{self.suite}'):
            self.skipTest(f'not fetched: tools/project/tree fetch {self.suite} trixie')
        self.start_sandbox([f'{trees}/trixie.lists', f'{trees}/trixie.packages', os.path.dirname(newer)])
        self.start_with_node()
        self.run_inside('sed -i "s/^deb \\([^ ]*\\) [^ ]*/deb \\1 trixie/" /etc/apt/sources.list; '
                        f'mount --bind {trees}/trixie.lists /var/lib/apt/lists; '
                        f'mount --bind {trees}/trixie.packages /var/cache/apt/archives')
        self.run_inside('apt-get -qq -y --no-download -o APT::Sandbox::User=root -o Dpkg::Options::=--force-confold dist-upgrade', timeout_s=1500)
        self.assertIn('trixie', self.run_inside('cat /etc/os-release'))
        self.assertIn('evermap', self.run_inside('dpkg-divert --truename /usr/lib/systemd/system/epmd.service; dpkg-divert --listpackage '
                                                 '/usr/lib/systemd/system/epmd.service'))
        self.check_kept()
        self.install(newer)
        self.check_kept()
        self.check_restart()
        self.run_inside('dpkg --remove evermap')
        self.assertFalse(self.is_ours())
        self.assertEqual(self.run_inside('dpkg --verify erlang-base; dpkg-divert --list | grep evermap', check=False), '')
        self.wait_registered('hare')


class BookwormTest(OverErlang, ErlangCase):
    suite = 'bookworm'


class TrixieTest(OverErlang, ErlangCase):
    suite = 'trixie'


class TestingTest(OverErlang, ErlangCase):
    suite = 'testing'


if __name__ == '__main__':
    unittest.main()
