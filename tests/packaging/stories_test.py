"""Operating it: the stories of README's section of that name, with the real programs from Debian, under systemd.

    EVERMAP_DEBS   directory with the packages that packaging/build-deb made (default: build-deb)
    STORIES_DEBS   directory for Debian's packages of RabbitMQ, ejabberd and Prometheus, which are downloaded when they
                   are not there (default: evermap/stories in the user's cache)

Everything happens in a sandbox with a systemd, files and a loopback interface of its own. What was measured is printed.
The story of a mapper that a release started itself, without systemd, is AutoStartTest in tests/custody/custody_test.py.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import unittest
import urllib.parse

import harness
from harness import ROOT, load
from harness.package import PackageCase, deb

CACHE = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
STORIES_DEBS = os.environ.get('STORIES_DEBS') or os.path.join(CACHE, 'evermap', 'stories')
PORT = 4369
REDEPLOYMENTS = 10
TELNET_PORT = 2323
# RabbitMQ and ejabberd take a while to start on a machine that does other things, too.
START_S = 240
# The example asks every 15 seconds.
SCRAPED_S = 90


def debian_packages(*names):
    """The files of Debian's packages and of all they depend on that is not installed here."""
    apt = ['apt-get', '-qq', '-y', '--no-install-recommends', '-o', f'Dir::Cache::archives={STORIES_DEBS}', '-o',
           'APT::Sandbox::User=root']
    os.makedirs(os.path.join(STORIES_DEBS, 'partial'), exist_ok=True)
    listed = subprocess.run([*apt, '--print-uris', 'install', *names], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False)
    if listed.returncode != 0:
        raise unittest.SkipTest(f'apt does not know {names}: {listed.stderr.strip()}')
    # Only what is not in the cache yet has a line.
    if listed.stdout.strip():
        done = subprocess.run([*apt, '--download-only', 'install', *names], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest(f'cannot download {names}: {done.stderr.strip()}')
    planned = subprocess.run([*apt, '--simulate', 'install', *names], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                             check=True).stdout
    found = []
    for name, version in re.findall(r'^Inst (\S+) \((\S+) ', planned, re.M):
        version = version.replace(':', '%3a')
        found += [entry.path for entry in os.scandir(STORIES_DEBS) if entry.name.startswith(f'{name}_{version}_')]
    return found


class Story(PackageCase):

    def setUp(self):
        super().setUp()
        self.client = harness.Client(PORT)

    def write(self, path, text):
        self.run_inside(f"mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}\nEND")

    def identity(self, unit):
        """Is another one once the unit has been restarted."""
        return (self.main_pid(unit), self.sandbox.property(unit, 'InvocationID'), self.sandbox.property(unit, 'ActiveState'))

    def upgrade_mapper(self):
        mapper = self.main_pid('epmd.service')
        self.run_inside('systemctl reload epmd.service')
        self.assertNotEqual(self.main_pid('epmd.service'), mapper)

    def kill_mapper(self):
        """Kills it with -9; returns the seconds until another one is there."""
        mapper = self.main_pid('epmd.service')
        started = time.monotonic()
        self.run_inside(f'kill -9 {mapper}')
        harness.wait_until(lambda: self.main_pid('epmd.service') not in (0, mapper), 'there is another mapper')
        with self.sandbox.network():
            self.client.names()
        return time.monotonic() - started


# What the two services of the story have in common. Wants=, not Requires=: systemd stops and restarts what requires a unit
# together with that, and these nodes have no need to. A quick machine restarts a release more often than the five times in
# ten seconds that systemd allows.
RELEASE_SERVICE = '''
[Unit]
Wants=epmd.service
After=epmd.service
StartLimitIntervalSec=0
[Service]
Environment=HOME=/root RELEASE_DISTRIBUTION=sname RELEASE_NODE={name} RELEASE_COOKIE=chat
Environment="ELIXIR_ERL_OPTIONS=-start_epmd false"
ExecStart=/opt/{name}/bin/{name} start
Restart=on-failure
'''


@harness.have_elixir
class ReleasesTest(Story):
    """Two releases on one host, one of which is deployed anew again and again while people are connected to the other."""

    def build_releases(self):
        project = os.path.join(self.directory, 'chat')
        shutil.copytree(os.path.join(ROOT, 'tests', 'fixtures', 'chat'), project)
        for name in ('web', 'telnet'):
            subprocess.run(['mix', 'release', name, '--path', os.path.join(self.directory, 'releases', name), '--quiet'],
                           cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
                           env=harness.clean_environment(HOME=self.directory, MIX_ENV='prod', LC_ALL='C.UTF-8'))

    def deploy(self, name):
        """Replaces the whole directory of the release and restarts it."""
        self.run_inside(f'rm -rf /opt/{name} && mkdir -p /opt && cp -r {self.directory}/releases/{name} /opt/{name}')
        self.run_inside(f'systemctl restart {name}')

    def ask(self, line):
        """What the telnet node answers, over the one session that all of the story has."""
        self.session.sendall(line.encode() + b'\n')
        reply = self.replies.readline()
        self.assertNotEqual(reply, b'', 'the session is over')
        return reply.decode().strip()

    def is_new(self, name, port_before):
        found = self.client.lookup(name)
        return found is not None and found.port != port_before

    def see_each_other(self):
        return self.ask('nodes') == 'web@sandbox sees [:telnet@sandbox]'

    def test_redeployments(self):
        self.build_releases()
        self.start_sandbox()
        self.install()
        for name in ('web', 'telnet'):
            self.write(f'/etc/systemd/system/{name}.service', RELEASE_SERVICE.format(name=name))
        self.run_inside('systemctl daemon-reload')
        self.deploy('telnet')
        self.deploy('web')
        telnet = self.identity('telnet')
        with self.sandbox.network():
            harness.wait_until(lambda: self.client.lookup(b'telnet'), 'telnet is registered')
            port = self.client.lookup(b'telnet').port
            self.session = harness.wait_until(self.connect, 'the telnet node answers')
        self.addCleanup(self.session.close)
        self.replies = self.session.makefile('rb')
        self.addCleanup(self.replies.close)
        harness.wait_until(self.see_each_other, 'they see each other')

        for number in range(1, REDEPLOYMENTS + 1):
            with self.sandbox.network():
                before = self.client.lookup(b'web').port
            self.deploy('web')
            deployed = time.monotonic()
            with self.sandbox.network():
                harness.wait_until(lambda old=before: self.is_new(b'web', old), 'web is registered')
                registered = time.monotonic()
                harness.wait_until(self.see_each_other, 'they see each other')
                seen = time.monotonic()
                self.assertEqual(self.client.lookup(b'telnet').port, port)
            what = ''
            if number == REDEPLOYMENTS // 2:
                what = f', then kill -9 of the mapper: another one after {self.kill_mapper():.2f} s'
            elif number % 2 == 0:
                self.upgrade_mapper()
                what = ', then an upgrade of the mapper'
            print(f'redeployment {number}: web registered {registered - deployed:.2f} s after systemctl restart, and the '
                  f'nodes saw each other {seen - registered:.2f} s later{what}', flush=True)
            with self.sandbox.network():
                self.assertEqual({name for name, _ in self.client.names()}, {b'web', b'telnet'})
            self.assertEqual(self.ask(f'still there {number}'), f'still there {number}')
            self.assertTrue(self.see_each_other())
        self.assertEqual(self.identity('telnet'), telnet)

    def connect(self):
        try:
            return socket.create_connection(('127.0.0.1', TELNET_PORT), timeout=harness.PATIENCE_S)
        except ConnectionRefusedError:
            return None


class BrokersTest(Story):
    """RabbitMQ and ejabberd on one host."""

    SERVICES = ('rabbitmq-server', 'ejabberd')

    def check_all(self):
        self.assertIn('RabbitMQ version', self.run_inside('rabbitmqctl status'))
        self.assertRegex(self.run_inside('ejabberdctl status'), r'The node ejabberd@\S+ is started')
        self.assertEqual(self.names(), {'rabbit', 'ejabberd'})
        self.assertEqual({unit: self.identity(unit) for unit in self.SERVICES}, self.identities)
        self.assertEqual(self.sandbox.property('epmd.service', 'ActiveState'), 'active')

    def start_brokers(self, *others):
        packages = debian_packages(*self.SERVICES, *others)
        self.start_sandbox()
        self.install()
        self.sandbox.run(f'dpkg --install {" ".join(packages)}', timeout_s=START_S)
        self.sandbox.run(f'systemctl start {" ".join(self.SERVICES)}', timeout_s=START_S)
        self.wait_registered('rabbit', 'ejabberd')
        self.identities = {unit: self.identity(unit) for unit in self.SERVICES}

    def test_mapper_is_upgraded_and_killed(self):
        self.start_brokers()
        self.assertIn('epmd.service', self.sandbox.property('ejabberd', 'Requires').split())
        self.check_all()
        for number in range(3):
            self.upgrade_mapper()
            self.check_all()
            print(f'kill -9: another mapper after {self.kill_mapper():.2f} s', flush=True)
            self.check_all()
        # The one way to restart the mapper that leaves those alone that require it.
        self.run_inside('systemctl restart --job-mode=ignore-dependencies epmd.service')
        self.check_all()
        # Of the two brokers' own commands, none takes the mapper along.
        self.run_inside('systemctl restart rabbitmq-server ejabberd')
        self.wait_registered('rabbit', 'ejabberd')
        self.identities = {unit: self.identity(unit) for unit in self.SERVICES}
        self.check_all()


class UpgradeOfThePackageTest(Story):
    """The package is upgraded and downgraded while nodes are looked up and register."""

    NODES = 50

    def registered(self):
        """What the registry knows, but for the names that the load registers all the time."""
        listed = json.loads(self.run_inside(f'epmdctl --json --registry /run/evermap/registry.{PORT} list'))
        return [entry for entry in listed if not entry['name'].startswith('load-')]

    def under_load(self, what, act):
        """Nothing fails and nothing is lost while `act` runs; returns what it does."""
        with self.sandbox.network(), load.Load(PORT, self.ports) as running:
            result = act()
        print(f'{what}: {running.distribution()}', flush=True)
        self.assertEqual(running.failures, [])
        self.assertEqual(self.registered(), self.before)
        return result

    def test_versions(self):
        # Another file with the same code.
        newer = self.repack('98.0', 'printf "newer" >>usr/bin/epmd')
        broken = self.repack('99.0', 'printf "#!/bin/sh\\nexit 1\\n" >usr/bin/epmd')
        self.start_sandbox()
        self.run_inside('systemctl start epmd.socket epmd.service')
        self.install()
        self.start_node('hare')
        self.ports = {b'node%d' % number: 10000 + number for number in range(self.NODES)}
        with self.sandbox.network():
            for name, port in self.ports.items():
                connection, _ = self.client.register(name, port=port)
                self.addCleanup(connection.close)
        # Whose they are is known a moment later.
        harness.wait_until(lambda: all(node['uid'] is not None for node in self.registered()), 'all owners are known')
        self.before = self.registered()
        self.assertEqual(len(self.before), self.NODES + 1)
        node = self.identity('hare')

        for how in ('dpkg --install', 'apt-get -qq -y --allow-downgrades -o APT::Sandbox::User=root install'):
            for path in (newer, self.deb):
                mapper = self.main_pid('epmd.service')
                self.under_load(f'{how.split()[0]}, to {os.path.basename(path)}', lambda: self.run_inside(f'{how} {path}'))
                self.assertNotEqual(self.main_pid('epmd.service'), mapper)
                self.run_inside(f'cmp /proc/{self.main_pid("epmd.service")}/exe /usr/bin/epmd')
                self.assertEqual('newer' in self.run_inside('tail -c 5 /usr/bin/epmd | tr -d "\\0"'), path == newer)

        mapper = self.main_pid('epmd.service')
        said = self.under_load('to one that does not start', lambda: self.install(broken))
        self.assertIn('could not be upgraded', said)
        self.assertEqual(self.main_pid('epmd.service'), mapper)
        self.under_load('from that to one that does', lambda: self.install(newer))
        self.assertNotEqual(self.main_pid('epmd.service'), mapper)

        self.run_inside('dpkg --remove evermap')
        self.assertIn('/erlang/', self.running())
        self.assertFalse(self.is_ours())
        self.wait_registered('hare')  # comes back by itself
        self.assertEqual(self.identity('hare'), node)


class MonitoringTest(Story):
    """Debian's Prometheus with the example that the package brings: it scrapes the exporter, and RabbitMQ, found through it."""

    def ask(self, path, **query):
        """What Prometheus' HTTP interface answers; None while it does not."""
        url = f'http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(query)}'
        reply = self.run_inside(f"curl -s '{url}'", check=False)
        return json.loads(reply)['data'] if reply.startswith('{') else None

    def value(self, expression):
        """The value of an expression that is one series."""
        answer = self.ask('query', query=expression)
        series = answer['result'] if answer else []
        return float(series[0]['value'][1]) if len(series) == 1 else None

    def targets(self):
        answer = self.ask('targets', state='active')
        return {(target['labels']['job'], target['scrapeUrl'], target['health'])
                for target in answer['activeTargets']} if answer else set()

    def rule_healths(self):
        answer = self.ask('rules')
        return {rule['health'] for group in answer['groups'] for rule in group['rules']} if answer else set()

    def test_prometheus(self):
        packages = debian_packages('rabbitmq-server', 'prometheus')
        exporter = deb('evermap-exporter')
        self.start_sandbox()
        self.install()
        self.install(exporter)
        self.write('/etc/default/prometheus', 'ARGS="--web.listen-address=127.0.0.1:9090"')
        self.write('/etc/rabbitmq/enabled_plugins', '[rabbitmq_prometheus].')
        self.sandbox.run(f'dpkg --install --force-confold {" ".join(packages)}', timeout_s=START_S)
        self.run_inside('cp /usr/share/evermap/prometheus/*.yml /etc/prometheus/ && systemctl restart prometheus')
        self.sandbox.run('systemctl start rabbitmq-server', timeout_s=START_S)
        self.wait_registered('rabbit')
        expected = {('epmd', 'http://127.0.0.1:14369/metrics', 'up'), ('rabbitmq', 'http://sandbox:15692/metrics', 'up')}
        harness.wait_until(lambda: self.targets() == expected, lambda: f'all are up: {self.targets()}', timeout_s=SCRAPED_S)
        harness.wait_until(lambda: self.value('evermap_names{state="live"}') == 1, 'the mapper has a node', timeout_s=SCRAPED_S)
        self.assertEqual(self.value('evermap_mapper_up'), 1)
        self.assertEqual(self.value('rabbitmq_identity_info{node="rabbit"}'), 1)
        # Unknown until it has been evaluated for the first time.
        harness.wait_until(lambda: self.rule_healths() == {'ok'}, lambda: f'all rules are evaluated: {self.rule_healths()}',
                           timeout_s=SCRAPED_S)

        # An upgrade shows, and nothing is alarming about it.
        before = self.value('evermap_mapper_start_time_seconds')
        self.upgrade_mapper()
        harness.wait_until(lambda: self.value('evermap_mapper_start_time_seconds') > before, 'the new mapper shows',
                           timeout_s=SCRAPED_S)
        self.assertEqual(self.value('evermap_last_upgrade_failed'), 0)
        self.assertEqual(self.value('evermap_names{state="live"}'), 1)
        self.assertEqual(self.ask('alerts')['alerts'], [])


if __name__ == '__main__':
    unittest.main()
