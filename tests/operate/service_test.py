"""The mapper that a node of a service starts (`epmd -daemon` out of `erl`): it must not end together with that service.

A real systemd in a sandbox, and real nodes in services that start their mapper by themselves. Needs root.
"""

import os
import re
import shutil
import unittest

import harness
from harness import wait_until
from harness.systemd_sandbox import SystemdSandbox

UNITS = os.path.join(harness.ROOT, 'packaging', 'systemd')

NODE = '''
[Service]
ExecStart=/usr/bin/erl -noshell -sname {name}
Environment=HOME=/tmp LC_ALL=C.UTF-8 {environment}
StandardError=file:/tmp/{name}.log
{more}
'''

ALICE = 64101
# As user@.service, which needs a login manager.
USER_MANAGER = '''
[Service]
User={uid}
Type=notify
Delegate=yes
Slice=user-{uid}.slice
RuntimeDirectory=user/{uid}
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/user/{uid}
ExecStart=/lib/systemd/systemd --user
'''


# What runs before there is an event loop; it is there once.
@unittest.skipIf(harness.LOOP == 'epoll', 'is the same with both event loops')
@harness.as_root_only
@unittest.skipUnless(shutil.which('erl'), 'no erl here')
class ServiceTest(unittest.TestCase):

    def start(self, service=None):
        """service: lines of epmd.service, in the place of those of the package's; None: there is no such unit."""
        sandbox = SystemdSandbox()
        self.addCleanup(sandbox.close)
        self.sandbox = sandbox.__enter__()
        if not self.run_(f'test -x {harness.EPMD} && echo there', check=False):
            self.skipTest('the build directory is not in the sandbox')
        # What erl starts is beside its own program.
        self.run_(f'for epmd in /usr/lib/erlang/erts-*/bin/epmd; do cp {harness.EPMD} $epmd; done; '
                  'rm -f /etc/systemd/system/epmd* /lib/systemd/system/epmd*; systemctl daemon-reload')
        if service is not None:
            self.unit('epmd.service', service)

    def run_(self, script, check=True):
        return self.sandbox.run(script, check=check).stdout.strip()

    def unit(self, name, text):
        self.run_(f"cat >/run/systemd/system/{name} <<'END'\n{text}\nEND\nsystemctl daemon-reload")

    def package_units(self):
        with open(os.path.join(UNITS, 'epmd.service.in')) as unit:
            service = unit.read().replace('@bindir@', '/usr/bin')
        # There is no such user here.
        self.unit('epmd.service', re.sub(r'(?m)^(User|Group)=.*\n', '', service))
        with open(os.path.join(UNITS, 'epmd.socket')) as unit:
            self.unit('epmd.socket', unit.read())

    def start_node(self, name, environment='', more=''):
        self.unit(f'{name}.service', NODE.format(name=name, environment=environment, more=more))
        self.run_(f'systemctl start {name}.service')

    def names(self, port=4369):
        return re.findall(r'(?m)^name (\S+) at', self.run_(f'epmd -port {port} -names', check=False))

    def wait_for(self, name, port=4369):
        wait_until(lambda: name in self.names(port),
                   lambda: f'{name} is registered; {self.log(name)}, {self.run_("systemctl status", check=False)}')

    def log(self, name):
        return self.run_(f'cat /tmp/{name}.log', check=False)

    def units_of_mappers(self):
        """The units in which processes called epmd are."""
        return set(self.run_('for pid in $(pidof epmd); do sed -n "s,^0::.*/,,p" /proc/$pid/cgroup; done', check=False).split())

    def state(self, unit):
        return self.sandbox.property(unit, 'ActiveState')

    def assert_scope(self, port=4369):
        units = self.units_of_mappers()
        self.assertEqual(len(units), 1, units)
        self.assertRegex(units.pop(), rf'^epmd-{port}-\d+\.scope$')

    def test_without_a_service_it_leaves_the_node_s(self):
        self.start()
        self.start_node('hare')
        self.wait_for('hare')
        self.assert_scope()
        self.assertIn('has left it for epmd-4369-', self.log('hare'))
        before = self.run_('pidof epmd')
        self.run_('systemctl stop hare.service')
        wait_until(lambda: self.names() == [], 'hare is gone')
        self.assertEqual(self.run_('pidof epmd'), before)
        # The next one finds it there, and leaves no scope of its own behind.
        self.start_node('rabbit')
        self.wait_for('rabbit')
        self.assertEqual(self.run_('pidof epmd'), before)
        self.assertEqual(self.run_('systemctl list-units --plain --no-legend "epmd*"').count('.scope'), 1)
        self.run_('systemctl kill "epmd-*.scope"')
        wait_until(lambda: '.scope' not in self.run_('systemctl list-units --all --plain --no-legend "epmd*"'),
                   'the scope is gone')

    def test_with_the_package_s_service(self):
        self.start()
        self.package_units()
        self.start_node('hare')
        self.wait_for('hare')
        self.assertEqual(self.units_of_mappers(), {'epmd.service'})
        self.assertEqual(self.state('epmd.socket'), 'active')
        self.run_('systemctl stop hare.service')
        wait_until(lambda: self.names() == [], 'hare is gone')
        self.assertEqual(self.state('epmd.service'), 'active')

    def test_while_the_service_runs(self):
        self.start()
        self.package_units()
        self.run_('systemctl start epmd.service')
        before = self.sandbox.property('epmd.service', 'MainPID')
        self.start_node('hare')
        self.wait_for('hare')
        self.assertEqual(self.sandbox.property('epmd.service', 'MainPID'), before)
        self.assertEqual(self.log('hare'), '')

    def test_a_service_that_does_not_come_up(self):
        for kind, service in (('ends', '[Service]\nType=oneshot\nExecStart=/bin/false'),
                              ('hangs', '[Service]\nExecStart=/bin/sleep 1000'),
                              ('is masked', None)):
            with self.subTest(kind):
                self.start(service)
                if service is None:
                    self.run_('systemctl mask --runtime epmd.service')
                self.start_node('hare')
                self.wait_for('hare')
                self.assert_scope()
                self.assertEqual('does not answer' in self.log('hare'), service is not None)
                self.sandbox.close()

    def test_another_port(self):
        self.start()
        self.package_units()
        self.start_node('hare', environment='ERL_EPMD_PORT=4370')
        self.wait_for('hare', 4370)
        self.assert_scope(4370)
        self.assertEqual(self.state('epmd.service'), 'inactive')

    def test_the_service_s_own_port(self):
        self.start()
        self.package_units()
        self.run_('mkdir /run/systemd/system/epmd.service.d /run/systemd/system/epmd.socket.d')
        self.unit('epmd.service.d/port.conf', '[Service]\nEnvironment=ERL_EPMD_PORT=4370')
        self.unit('epmd.socket.d/port.conf', '[Socket]\nListenStream=\nListenStream=4370')
        self.start_node('hare', environment='ERL_EPMD_PORT=4370')
        self.wait_for('hare', 4370)
        self.assertEqual(self.units_of_mappers(), {'epmd.service'})

    def test_another_user_may_not_leave(self):
        self.start()
        self.start_node('hare', more='User=nobody\nStandardError=file:/var/tmp/hare.log')
        self.wait_for('hare')
        self.assertEqual(self.units_of_mappers(), {'hare.service'})
        self.assertIn('ends together with it', self.run_('cat /var/tmp/hare.log'))

    def test_a_user_s_service(self):
        """Of `systemd --user`: it leaves that for a scope of the same manager."""
        self.start()
        self.run_(f'mkdir -p /run/user; useradd -m -u {ALICE} -K UID_MAX=65000 alice')
        self.unit(f'user@{ALICE}.service', USER_MANAGER.format(uid=ALICE))
        self.run_(f'systemctl start user@{ALICE}.service')
        as_alice = f'setpriv --reuid {ALICE} --regid {ALICE} --clear-groups env XDG_RUNTIME_DIR=/run/user/{ALICE}'
        self.run_(f'{as_alice} systemd-run --user --unit=hare -p StandardError=file:/var/tmp/hare.log '
                  'erl -noshell -sname hare')
        wait_until(lambda: 'hare' in self.names(), lambda: self.run_('cat /var/tmp/hare.log', check=False))
        self.assert_scope()
        self.run_(f'{as_alice} systemctl --user stop hare')
        wait_until(lambda: self.names() == [], 'hare is gone')
        self.assertEqual(self.run_('epmd -started; echo $?'), '0')

    def test_a_unit_that_is_the_mapper(self):
        for name in ('epmd', 'own-epmd'):
            with self.subTest(name):
                self.start()
                self.unit(f'{name}.service', '[Service]\nType=forking\nExecStart=/usr/bin/epmd -daemon')
                self.run_(f'systemctl start {name}.service')
                self.assertEqual(self.units_of_mappers(), {f'{name}.service'})
                self.assertEqual(self.run_('epmd -started; echo $?'), '0')
                self.sandbox.close()

    def test_a_shell_of_the_mapper_s_unit(self):
        """Asks for no epmd.service from within it, which would wait for itself."""
        self.start('[Service]\nType=forking\nExecStart=/bin/sh -c "/usr/bin/epmd -daemon; true"')
        self.run_('systemctl start epmd.service')
        self.assertEqual(self.units_of_mappers(), {'epmd.service'})

    def test_a_scope_is_no_service(self):
        self.start()
        self.package_units()
        self.run_('systemd-run --scope --unit=shell.scope sh -c "epmd -daemon"')
        self.assertEqual(self.units_of_mappers(), {'shell.scope'})
        self.assertEqual(self.state('epmd.service'), 'inactive')


if __name__ == '__main__':
    unittest.main()
