"""The Ansible role, by the real ansible-playbook on a sandbox with a systemd of its own.

    EVERMAP_DEBS      directory with the packages that packaging/build-deb made (default: build-deb)
    EVERMAP_ARCHIVES  directory with the archives that packaging/build-archive made (default: build-archive)
"""

import json
import os
import re
import shutil
import unittest

import harness
from harness import ROOT
from harness.package import archives, deb
from harness.systemd_sandbox import SystemdSandbox

PLAYBOOK = '''
- hosts: all
  gather_facts: false
  roles:
    - role: evermap
'''

APPLICATION = '''
[Service]
Environment=HOME=/root
ExecStart=/usr/bin/erl -noshell -sname {name} -setcookie test -start_epmd false
'''


@unittest.skipUnless(shutil.which('ansible-playbook'), 'no ansible-playbook here')
class RoleTestCase(unittest.TestCase):

    def setUp(self):
        self.variables = self.what_to_install()
        sandbox = SystemdSandbox()
        self.addCleanup(sandbox.close)
        self.sandbox = sandbox.__enter__()
        self.run_inside('mkdir -p /root/play && cp -r %s/packaging/ansible/roles /root/play/' % ROOT)
        self.write('/root/play/play.yml', PLAYBOOK)

    def run_inside(self, script, check=True):
        return self.sandbox.run(script, check=check).stdout.strip()

    def write(self, path, text):
        self.run_inside(f"cat >{path} <<'END'\n{text}\nEND")

    def play(self, *options, **variables):
        """Runs the role; returns the number of changes, and its output."""
        self.write('/root/play/variables.json', json.dumps({**self.variables, **variables}))
        output = self.run_inside('cd /root/play && ANSIBLE_NOCOLOR=1 ansible-playbook -i localhost, -c local -D play.yml '
                                 f'-e ansible_python_interpreter=/usr/bin/python3 -e @variables.json {" ".join(options)}')
        return int(re.search(r'changed=(\d+)', output)[1]), output

    def settled(self, *options, **variables):
        changed, output = self.play(*options, **variables)
        self.assertEqual(changed, 0, output)

    def listening(self):
        return set(re.findall(r'(\S+):\d+ +\S+:\*', self.run_inside("ss -Hltn 'sport = :4369 or sport = :4370'")))

    def names(self, port=4369):
        return set(re.findall(r'^name (\S+) at port', self.run_inside(f'epmd -port {port} -names', check=False), re.M))

    def start_application(self, name):
        self.write(f'/etc/systemd/system/{name}.service', APPLICATION.format(name=name))
        self.run_inside(f'systemctl daemon-reload; systemctl start {name}')


class AnsibleTest(RoleTestCase):

    def what_to_install(self):
        return {'evermap_deb': deb('evermap'), 'evermap_exporter_deb': deb('evermap-exporter')}

    def test_defaults(self):
        changed, output = self.play()
        self.assertGreater(changed, 0, output)
        self.assertIn('Evermap', self.run_inside('epmd -version'))
        self.assertEqual(self.run_inside('systemctl is-enabled epmd.socket epmd.service'), 'enabled\nenabled')
        self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'active')
        self.assertEqual(self.listening(), {'*'})
        self.settled()
        self.settled('--check')

    def test_settings(self):
        self.start_application('web')
        # One of those that systemd stops with the mapper, and which the role has to start again.
        self.write('/etc/systemd/system/requires.service',
                   '[Unit]\nRequires=epmd.service\nAfter=epmd.service\n[Service]\nExecStart=sleep infinity')
        settings = {'evermap_addresses': ['127.0.0.7'], 'evermap_descriptors_max': 5000, 'evermap_packet_timeout': 7,
                    'evermap_capacity': 1000, 'evermap_options': ['-d'], 'evermap_applications': ['web.service'],
                    'evermap_exporter': True}
        self.play(**settings)
        self.assertEqual(self.listening(), {'127.0.0.7', '127.0.0.1', '[::1]'})
        pid = self.sandbox.property('epmd.service', 'MainPID')
        self.assertEqual(self.run_inside(f"tr '\\0' ' ' </proc/{pid}/cmdline"),
                         '/usr/bin/epmd -systemd -packet_timeout 7 -capacity 1000 -d')
        self.assertRegex(self.run_inside(f'cat /proc/{pid}/limits'), r'Max open files +5000 +5000')
        self.assertIn('epmd.service', self.sandbox.property('web.service', 'After').split())
        self.assertIn('epmd.service', self.sandbox.property('web.service', 'Wants').split())
        self.assertNotIn('epmd.service', self.sandbox.property('web.service', 'Requires').split())
        harness.wait_until(lambda: 'evermap_registry_capacity 1000' in
                           self.run_inside('curl -s http://127.0.0.1:14369/metrics', check=False), 'the exporter shows it')
        # An ordered application starts the mapper.
        self.run_inside('systemctl restart web requires')
        harness.wait_until(lambda: self.names() == {'web'}, 'web is registered')
        self.settled(**settings)

        # Other settings, while a node is registered: it stays, and its service is left alone.
        application = self.sandbox.property('web.service', 'MainPID')
        settings['evermap_addresses'] = []
        changed, output = self.play(**settings)
        self.assertGreater(changed, 0, output)
        self.assertEqual(self.listening(), {'*'})
        self.assertEqual(self.names(), {'web'})
        self.assertEqual(self.sandbox.property('requires.service', 'ActiveState'), 'active')
        self.assertEqual(self.sandbox.property('web.service', 'MainPID'), application)
        self.settled(**settings)
        settings['evermap_packet_timeout'] = 8
        self.play(**settings)
        self.assertEqual(self.names(), {'web'})
        self.assertEqual(self.sandbox.property('web.service', 'MainPID'), application)
        self.settled(**settings)

    def test_other_port(self):
        self.start_application('web')
        settings = {'evermap_port': 4370, 'evermap_applications': ['web.service']}
        self.play(**settings)
        self.run_inside('systemctl restart web')
        harness.wait_until(lambda: self.names(4370) == {'web'}, 'web is registered at the other port')
        self.assertIn('up and running on port 4370', self.run_inside('epmd -port 4370 -names'))
        self.run_inside('systemctl reload epmd')
        self.assertEqual(self.names(4370), {'web'})
        self.settled(**settings)


class ArchiveTest(RoleTestCase):
    """That one file, where the stock epmd serves a node already."""

    def what_to_install(self):
        return {'evermap_archive': archives(os.uname().machine)[-1], 'evermap_epmd': '/home/deploy/epmd'}

    def pid(self):
        return self.sandbox.property('epmd.service', 'MainPID')

    def test_one_file(self):
        self.run_inside('systemctl start epmd.socket epmd.service')
        self.start_application('web')
        harness.wait_until(lambda: self.names() == {'web'}, 'web is registered with the stock one')
        self.play()
        self.assertEqual(self.run_inside(f'readlink /proc/{self.pid()}/exe'), '/home/deploy/epmd')
        self.assertIn('Evermap', self.run_inside('/home/deploy/epmd -version'))
        self.assertEqual(self.run_inside(f'stat -c %U /proc/{self.pid()}'), 'evermap')
        harness.wait_until(lambda: self.names() == {'web'}, 'web is registered with ours')
        self.settled()
        self.settled('--check')

        # Another one: the mapper that runs is upgraded to it.
        former = self.pid()
        self.run_inside(f'mkdir /root/newer && tar -C /root/newer -xzf {self.variables["evermap_archive"]} && cd /root/newer && '
                        'echo >>"$(echo */bin/epmd)" && tar -czf newer.tar.gz evermap-*')
        changed, output = self.play(evermap_archive='/root/newer/newer.tar.gz')
        self.assertGreater(changed, 0, output)
        self.assertNotEqual(self.pid(), former)
        self.assertEqual(self.run_inside(f'readlink /proc/{self.pid()}/exe'), '/home/deploy/epmd')
        self.assertEqual(self.names(), {'web'})
        self.settled(evermap_archive='/root/newer/newer.tar.gz')


if __name__ == '__main__':
    unittest.main()
