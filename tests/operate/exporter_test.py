"""epmd-exporter: metrics, service discovery and the status page, with the real mapper, nodes and Prometheus.

    EPMD_EXPORTER   the exporter under test (default: the one in the build directory MESON_BUILD_ROOT)
    PROMETHEUS      Prometheus; promtool lies beside it (default: in PATH, or where tools/setup unpacks it)
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.parse

import harness
from harness import ErlangNode, Mapper
from harness.environment import UNPACKED

PACKAGING = os.path.join(harness.ROOT, 'packaging', 'prometheus')
EXPORTER = os.environ.get('EPMD_EXPORTER') or os.path.join(os.environ.get('MESON_BUILD_ROOT', ''), 'tools', 'exporter',
                                                          'epmd-exporter')
PROMETHEUS = os.environ.get('PROMETHEUS') or shutil.which('prometheus') or os.path.join(UNPACKED, 'usr/bin/prometheus')
PROMTOOL = os.path.join(os.path.dirname(PROMETHEUS), 'promtool')
have_prometheus = unittest.skipUnless(os.path.exists(PROMETHEUS), 'no Prometheus here (tools/setup unpacks it)')

SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')


def get(port, path, method='GET', host='127.0.0.1'):
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection(host, port, timeout=harness.PATIENCE_S)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read().decode()
    finally:
        connection.close()


def unescaped(value):
    return re.sub(r'\\(.)', lambda match: '\n' if match[1] == 'n' else match[1], value)


def parse_metrics(text):
    """{(name, frozenset of labels): value}; fails when a line is none or a series is there twice."""
    series = {}
    for line in text.splitlines():
        if line.startswith('#'):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels = frozenset((name, unescaped(value)) for name, value in LABEL.findall(match[2] or ''))
        assert (match[1], labels) not in series, line
        series[match[1], labels] = float(match[3])
    return series


class Exporter:
    """The exporter on a free port of loopback, until the end of the test."""

    def __init__(self, test, *args, listen='127.0.0.1'):
        self.process = subprocess.Popen([EXPORTER, '--listen', f'{listen}:0', *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=harness.clean_environment())
        test.addCleanup(self.close)
        line = self.process.stderr.readline().decode()
        match = re.search(r'listening on \S+:(\d+)$', line)
        assert match, line
        self.port = int(match[1])
        self.host = listen.strip('[]')

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(harness.PATIENCE_S)
        self.process.stderr.close()

    def get(self, path, method='GET'):
        return get(self.port, path, method, self.host)

    def metrics(self):
        status, _, body = self.get('/metrics')
        assert status == 200, body
        return parse_metrics(body)

    def value(self, name, **labels):
        return self.metrics()[name, frozenset(labels.items())]

    def groups(self):
        status, headers, body = self.get('/sd')
        assert status == 200 and headers['Content-Type'] == 'application/json', (status, headers, body)
        return json.loads(body)


class ExporterTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-exporter-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.registry = os.path.join(self.directory, 'registry')

    def start_mapper(self, **options):
        mapper = Mapper(directory=self.directory, registry=self.registry, **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def register(self, mapper, name, **description):
        node, creation = mapper.register(name, **description)
        self.addCleanup(node.close)
        return node, creation

    def start_exporter(self, *args, **options):
        return Exporter(self, '--registry', self.registry, *args, **options)

    def test_requests_are_counted(self):
        mapper = self.start_mapper()
        exporter = self.start_exporter()

        def counts():
            return {tuple(value for _, value in sorted(labels)): count for (name, labels), count in exporter.metrics().items()
                    if name == 'evermap_requests_total'}

        before = counts()
        nodes = [self.register(mapper, b'node%d' % number)[0] for number in range(3)]
        refused, reply = mapper.alive2(b'node0')
        self.assertEqual(harness.alive2_result(reply)[0], 1)
        refused.close()
        for _ in range(5):
            mapper.lookup(b'node0')
        for _ in range(7):
            mapper.lookup(b'nobody')
        mapper.names()
        mapper.dump()
        self.assertEqual(mapper.kill(), b'NO')
        after = counts()
        grown = {key: after[key] - before[key] for key in after if after[key] != before[key]}
        self.assertEqual(grown, {('alive2', 'registered'): 3, ('alive2', 'refused'): 1, ('port2', 'found'): 5,
                                 ('port2', 'unknown'): 7, ('names', 'answered'): 1, ('dump', 'answered'): 1,
                                 ('kill', 'answered'): 1})
        # One that is answered is counted a moment later.
        harness.wait_until(lambda: exporter.value('evermap_request_duration_seconds_count') == sum(after.values()),
                           'each request is in the histogram')
        self.assertEqual(exporter.value('evermap_names', state='live'), 3)
        for node in nodes:
            node.close()
        harness.wait_until(lambda: exporter.value('evermap_names', state='live') == 0, 'no node is shown')
        self.assertEqual(exporter.value('evermap_names', state='remembered'), 3)
        self.assertEqual(exporter.value('evermap_unregistered_total'), 3)
        self.assertNotIn('evermap_node_info', {name for name, _ in exporter.metrics()})

    def test_the_mapper_does_not_notice(self):
        """Observing opens no connection and changes nothing in the registry."""
        mapper = self.start_mapper()
        self.register(mapper, b'node')
        exporter = self.start_exporter()
        # The last that the mapper writes of a new node.
        self.wait_for_users(exporter)
        accepted = exporter.value('evermap_connections_accepted_total')
        with open(self.registry, 'rb') as file:
            before = file.read()
        for path in ('/metrics', '/sd', '/') * 10:
            exporter.get(path)
        with open(self.registry, 'rb') as file:
            self.assertEqual(before, file.read())
        self.assertEqual(exporter.value('evermap_connections_accepted_total'), accepted)
        with open(f'/proc/{exporter.process.pid}/maps') as maps:
            self.assertFalse([line for line in maps if self.registry in line and 'w' in line.split()[1]])

    def test_user_of_a_node(self):
        mapper = self.start_mapper()
        self.register(mapper, b'hare')
        exporter = self.start_exporter()
        self.wait_for_users(exporter)

    def wait_for_users(self, exporter):
        """Of nodes that this process has registered."""
        harness.wait_until(lambda: {dict(labels)['uid'] for name, labels in exporter.metrics()
                                    if name == 'evermap_node_info'} == {str(os.geteuid())}, 'the user')

    def test_mapper_comes_and_goes(self):
        mapper = self.start_mapper(keeper=True)
        self.register(mapper, b'hare')
        exporter = self.start_exporter()
        self.assertEqual(exporter.value('evermap_mapper_up'), 1)
        self.assertIn('Running', exporter.get('/')[2])
        os.kill(mapper.pid, signal.SIGHUP)
        harness.wait_until(lambda: 'succeeded' in exporter.get('/')[2], 'it is upgraded')
        self.assertEqual(exporter.value('evermap_last_upgrade_failed'), 0)
        self.assertEqual(exporter.value('evermap_upgrades_total'), 1)
        self.assertEqual(exporter.value('evermap_names', state='live'), 1)
        mapper.stop()
        self.assertEqual(exporter.value('evermap_mapper_up'), 0)
        self.assertIn('does not run', exporter.get('/')[2])
        self.start_mapper()
        self.assertEqual(exporter.value('evermap_mapper_up'), 1)

    def test_no_registry_yet(self):
        exporter = self.start_exporter()
        self.assertEqual(exporter.value('evermap_registry_readable'), 0)
        self.assertEqual(exporter.value('evermap_mapper_up'), 0)
        for path in ('/sd', '/'):
            status, _, body = exporter.get(path)
            self.assertEqual(status, 503)
            self.assertIn(self.registry, body)
        mapper = self.start_mapper()
        self.register(mapper, b'node')
        self.assertEqual(exporter.value('evermap_registry_readable'), 1)
        self.assertEqual(len(exporter.groups()), 1)

    def test_registry_is_replaced(self):
        mapper = self.start_mapper(args=['-capacity', '100'])
        exporter = self.start_exporter()
        self.assertEqual(exporter.value('evermap_registry_capacity'), 100)
        mapper.stop()
        for name in ('registry', 'registry.lock'):
            os.unlink(os.path.join(self.directory, name))
        mapper = self.start_mapper(args=['-capacity', '200'])
        self.assertEqual(exporter.value('evermap_registry_capacity'), 200)
        self.register(mapper, b'node')
        self.assertEqual(exporter.value('evermap_names', state='live'), 1)
        with open(f'/proc/{exporter.process.pid}/maps') as maps:
            self.assertFalse([line for line in maps if 'deleted' in line and self.registry in line])

    def test_registry_is_damaged(self):
        with open(self.registry, 'wb') as file:
            file.write(b'nonsense' * 1000)
        exporter = self.start_exporter()
        self.assertEqual(exporter.value('evermap_registry_readable'), 0)
        self.assertEqual(exporter.get('/')[0], 503)

    def test_names_of_any_kind(self):
        names = ['plain', 'a"b\\c', '<script>alert(1)</script>', "'&amp;", 'hästen\u20ac\U0001f407', 'x' * 255, '{}', ' ']
        mapper = self.start_mapper()
        for name in names:
            self.register(mapper, name.encode(), port=4711)
        exporter = self.start_exporter()
        shown = sorted(dict(labels)['name'] for name, labels in exporter.metrics() if name == 'evermap_node_info')
        self.assertEqual(shown, sorted(names))
        self.assertEqual(sorted(group['labels']['__meta_evermap_name'] for group in exporter.groups()), sorted(names))
        status, headers, page = exporter.get('/')
        self.assertEqual(status, 200)
        self.assertNotIn('<script', page)
        self.assertIn("default-src 'none'", headers['Content-Security-Policy'])
        self.assertNotRegex(page, r'(?i)(src|href)="?(https?:)?//')
        if os.path.exists(PROMTOOL):
            done = subprocess.run([PROMTOOL, 'check', 'metrics'], input=exporter.get('/metrics')[2].encode(),
                                  capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b'', b''), done)

    def test_service_discovery(self):
        mapper = self.start_mapper()
        _, creation = self.register(mapper, b'rabbit', port=25672)
        self.register(mapper, b'hidden', port=4711, node_type=72)
        self.register(mapper, b'client', port=0)
        exporter = self.start_exporter('--host', 'hare.example')
        rabbit = {'__meta_evermap_name': 'rabbit', '__meta_evermap_port': '25672', '__meta_evermap_creation': str(creation),
                  '__meta_evermap_state': 'live', '__meta_evermap_type': 'normal'}
        groups = {group['targets'][0]: group['labels'] for group in exporter.groups()}
        self.assertEqual(groups['hare.example:25672'], rabbit)
        self.assertEqual(groups['hare.example:4711']['__meta_evermap_type'], 'hidden')
        self.assertEqual(len(groups), 2)
        self.assertEqual(self.start_exporter().groups()[1]['targets'], [f'{socket.gethostname()}:25672'])

    def test_thousands_of_nodes(self):
        count = harness.scaled('NODES', 10000) // 10
        mapper = self.start_mapper()
        for number in range(count):
            self.register(mapper, b'node%d' % number, port=number + 1)
        exporter = self.start_exporter()
        self.assertEqual(sum(name == 'evermap_node_info' for name, _ in exporter.metrics()), count)
        self.assertEqual(len(exporter.groups()), count)

    def test_http(self):
        self.start_mapper()
        exporter = self.start_exporter()
        self.assertEqual(exporter.get('/nothing')[0], 404)
        self.assertEqual(exporter.get('/metrics/')[0], 404)
        self.assertEqual(exporter.get('/../../etc/passwd')[0], 404)
        self.assertEqual(exporter.get('/metrics?x=1')[0], 200)
        status, headers, body = exporter.get('/', 'POST')
        self.assertEqual((status, headers['Allow']), (405, 'GET, HEAD'))
        status, headers, body = exporter.get('/metrics', 'HEAD')
        self.assertEqual((status, body), (200, ''))
        self.assertGreater(int(headers['Content-Length']), 1000)
        with socket.create_connection(('127.0.0.1', exporter.port), timeout=harness.PATIENCE_S) as connection:
            connection.sendall(b'\x00\xffgarbage\r\n\r\n' * 100)
            harness.receive_all(connection)
        self.assertEqual(exporter.get('/metrics')[0], 200)

    def test_loopback_only(self):
        exporter = self.start_exporter()
        with self.assertRaises(OSError):
            get(exporter.port, '/', host='127.0.0.2')

    def test_end(self):
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            exporter = self.start_exporter()
            exporter.process.send_signal(signal_number)
            self.assertEqual(exporter.process.wait(harness.PATIENCE_S), 0)
            self.assertEqual(exporter.process.stderr.read(), b'')


class CommandLineTest(unittest.TestCase):

    def run_exporter(self, *args, **env):
        return subprocess.run([EXPORTER, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.PATIENCE_S,
                              env=harness.clean_environment(**env), check=False)

    def test_port_that_is_taken(self):
        with socket.create_server(('127.0.0.1', 0)) as taken:
            address = '127.0.0.1:%d' % taken.getsockname()[1]
            done = self.run_exporter('--listen', address)
        self.assertEqual((done.returncode, done.stdout), (1, b''), done)
        self.assertIn(address, harness.one_line(done))
        self.assertIn('in use', harness.one_line(done))

    def test_ipv6(self):
        """Debian's civetweb has none; where it does not work that is said."""
        exporter = subprocess.Popen([EXPORTER, '--listen', '[::1]:0'], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(exporter.wait)
        self.addCleanup(exporter.kill)
        with exporter.stderr:
            line = exporter.stderr.readline().decode()
        listening = re.search(r'listening on \[::1\]:(\d+)$', line)
        if listening:
            self.assertEqual(get(int(listening[1]), '/metrics', host='::1')[0], 200)
        else:
            self.assertRegex(line, 'built without IPv6')
            self.assertEqual(exporter.wait(harness.PATIENCE_S), 1)

    def test_wrong(self):
        for args in (['--listen', '127.0.0.1'], ['--listen', 'localhost:1'], ['--listen', '127.0.0.1:70000'],
                     ['--listen', '::1:80'], ['--listen', ''], ['--port', 'x'], ['--port', '70000'], ['--nonsense'], ['nonsense']):
            with self.subTest(args=args):
                done = self.run_exporter(*args)
                self.assertGreater(done.returncode, 100, done)
                self.assertEqual(done.stdout, b'')

    def test_last_one_counts(self):
        exporter = Exporter(self, '--listen', '127.0.0.2:0', '--registry', '/nowhere', '--registry', '/nowhere/else')
        self.assertIn('/nowhere/else', get(exporter.port, '/', host='127.0.0.2')[2])

    def test_help_and_version(self):
        done = self.run_exporter('--help')
        self.assertEqual(done.returncode, 0)
        for option in (b'--listen', b'--registry', b'--port', b'--host', b'--version', b'14369'):
            self.assertIn(option, done.stdout)
        self.assertRegex(self.run_exporter('--version').stdout.decode(), r'^epmd-exporter \d+\.\d+\.\d+\n$')


@have_prometheus
class PrometheusTest(unittest.TestCase):
    """Prometheus itself scrapes the exporter and finds the nodes through it."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-prometheus-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def start_prometheus(self, exporter_port):
        """The example's configuration, with other ports and shorter intervals."""
        with open(os.path.join(PACKAGING, 'prometheus.yml')) as example:
            text = example.read()
        text, count = re.subn(r'127\.0\.0\.1:14369', f'127.0.0.1:{exporter_port}', text)
        self.assertEqual(count, 2)
        text = re.sub(r'(\w+_interval): 15s', r'\1: 1s', text)
        text = text.replace('evermap-alerts.yml', os.path.join(os.path.realpath(PACKAGING), 'evermap-alerts.yml'))
        # All nodes too, as they are listed.
        text += (f'  - job_name: erlang\n    http_sd_configs:\n      - url: http://127.0.0.1:{exporter_port}/sd\n'
                 f'        refresh_interval: 1s\n')
        path = os.path.join(self.directory, 'prometheus.yml')
        with open(path, 'w') as config:
            config.write(text)
        port = harness.free_port()
        log = open(os.path.join(self.directory, 'log'), 'wb')
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [PROMETHEUS, f'--config.file={path}', f'--storage.tsdb.path={self.directory}/data',
             f'--web.listen-address=127.0.0.1:{port}'], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=harness.clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def ready():
            self.assertIsNone(process.poll(), 'Prometheus ended')
            try:
                return get(port, '/-/ready')[0] == 200
            except OSError:
                return False

        harness.wait_until(ready, 'Prometheus is ready')
        return port

    def ask(self, port, path, **query):
        status, _, body = get(port, f'/api/v1/{path}?' + urllib.parse.urlencode(query))
        reply = json.loads(body)
        self.assertEqual((status, reply['status']), (200, 'success'), body)
        return reply['data']

    @harness.have_erlang
    def test_scrape_and_discovery(self):
        mapper = Mapper(directory=self.directory)
        self.addCleanup(mapper.close)
        mapper.start()
        exporter = Exporter(self, '--registry', mapper.registry, '--host', '127.0.0.1')
        rabbit, _ = mapper.register(b'rabbit', port=25672)
        self.addCleanup(rabbit.close)
        hare = ErlangNode('hare', mapper.port, self.directory)
        self.addCleanup(hare.close)
        hare_port = mapper.wait_registered(b'hare').port
        port = self.start_prometheus(exporter.port)

        def targets(job):
            return {target['discoveredLabels'].get('__meta_evermap_name', ''): target
                    for target in self.ask(port, 'targets', state='active')['activeTargets'] if target['scrapePool'] == job}

        def query(expression):
            return {tuple(sorted((key, value) for key, value in sample['metric'].items() if key not in ('instance', 'job'))):
                    float(sample['value'][1]) for sample in self.ask(port, 'query', query=expression)['result']}

        harness.wait_until(lambda: targets('epmd').get('', {}).get('health') == 'up', 'the exporter is scraped')
        harness.wait_until(lambda: set(targets('erlang')) == {'rabbit', 'hare'}, lambda: f'both nodes: {targets("erlang")}')
        self.assertEqual(targets('erlang')['hare']['discoveredLabels']['__address__'], f'127.0.0.1:{hare_port}')
        harness.wait_until(lambda: targets('rabbitmq'), 'the node rabbit is found')
        self.assertEqual(list(targets('rabbitmq')), ['rabbit'])
        self.assertEqual(targets('rabbitmq')['rabbit']['labels'],
                         {'instance': '127.0.0.1:15692', 'job': 'rabbitmq', 'node': 'rabbit'})
        self.assertEqual(query('evermap_names{state="live"}'), {(('__name__', 'evermap_names'), ('state', 'live')): 2})
        self.assertEqual(query('count(evermap_node_info{name="hare",state="live"})'), {(): 1})
        hare.kill()
        harness.wait_until(lambda: set(targets('erlang')) == {'rabbit'}, 'the node that ended is no target any more')
        harness.wait_until(lambda: query('sum(evermap_names{state="live"})') == {(): 1}, 'one node')

        # What the dashboard asks for is understood, and is there.
        with open(os.path.join(PACKAGING, 'grafana-dashboard.json')) as file:
            dashboard = json.load(file)
        for panel in dashboard['panels']:
            for target in panel['targets']:
                expression = target['expr'].replace('$instance', '.*').replace('$__rate_interval', '5m')
                with self.subTest(expression=expression):
                    self.ask(port, 'query', query=expression)

    def test_rules(self):
        for command in (['test', 'rules', 'evermap-alerts-test.yml'], ['check', 'config', 'prometheus.yml']):
            done = subprocess.run([PROMTOOL, *command], cwd=PACKAGING, capture_output=True, check=False)
            self.assertEqual(done.returncode, 0, done)

    def test_rules_and_dashboard_name_what_there_is(self):
        known = set()
        for source in ('tools/exporter/metrics.cc', 'registry/counters.h'):
            with open(os.path.join(PACKAGING, '..', '..', source)) as file:
                known |= set(re.findall(r'"(evermap_\w+)"', file.read()))
        for name in ('evermap-alerts.yml', 'evermap-alerts-test.yml', 'grafana-dashboard.json'):
            with open(os.path.join(PACKAGING, name)) as file:
                # A histogram is made of several.
                asked = {name.removesuffix('_bucket') for name in re.findall(r'\bevermap_\w+', file.read())}
            self.assertTrue(asked)
            self.assertEqual(asked - known, set(), name)


if __name__ == '__main__':
    unittest.main()
