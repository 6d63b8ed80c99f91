"""epmd-bench and the scripts around it: that they measure what they say, not how fast anything is."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import Mapper

BENCH = os.environ['EPMD_BENCH']
BUILD = os.environ['MESON_BUILD_ROOT']
ROOT = pathlib.Path(harness.ROOT)
TIMEOUT_S = 120
SHORT = ['--seconds', '0.1', '--warm-up', '0.02']


def run(*command, exit_code=0):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=harness.clean_environment(), timeout=TIMEOUT_S, check=False)
    if done.returncode != exit_code:
        raise AssertionError(f'{command} exited {done.returncode}, not {exit_code}: {done.stdout}{done.stderr}')
    return done


def measure(*arguments, exit_code=0):
    return json.loads(run(BENCH, *arguments, '--json', exit_code=exit_code).stdout)


class Floor:
    """The floor server: whoever is asked for is not registered."""

    def __init__(self):
        self.port = harness.free_port()
        self._process = subprocess.Popen([BENCH, 'floor', '--port', str(self.port)], stderr=subprocess.DEVNULL)
        harness.wait_until(self._answers, 'the floor')

    def _answers(self):
        try:
            socket.create_connection(('127.0.0.1', self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


class WorkloadTest(unittest.TestCase):

    def check(self, document):
        load = document['load']
        self.assertEqual(load['wrong'], 0, load['outcomes'])
        self.assertGreater(load['outcomes']['correct'], 0)
        latency = load['latency_us']
        rising = [latency[name] for name in ('p50', 'p90', 'p99', 'p99.9', 'p99.99', 'max')]
        self.assertEqual(rising, sorted(rising))
        self.assertEqual(sum(count for _, count in load['distribution_us']), load['outcomes']['correct'])
        return load

    def test_every_workload(self):
        with Mapper() as mapper:
            to = ['--port', mapper.port, '--pid', mapper.pid]
            load = self.check(measure('lookup', *to, *SHORT, '--unknown', '0.5'))
            self.assertGreater(load['kinds']['known'], 0)
            self.assertGreater(load['kinds']['unknown'], 0)
            self.assertGreater(load['server']['cpu_us_per_request'], 0)
            self.assertGreater(load['server']['memory_kib'], 0)
            self.assertGreaterEqual(load['server']['descriptors'], 100)  # of the nodes

            load = self.check(measure('names', *to, *SHORT, '--threads', '2'))
            self.assertEqual(list(load['kinds']), ['names'])
            self.check(measure('register', *to, *SHORT))
            load = self.check(measure('mixed', *to, *SHORT, '--known', 1, '--unknown', 1, '--names', 1, '--register', 1))
            self.assertEqual(set(load['kinds']), {'known', 'unknown', 'names', 'register'})
            load = self.check(measure('storm', '--port', mapper.port, '--nodes', 300))
            self.assertEqual((load['requests'], load['storm']['listed']), (300, 300))
            load = self.check(measure('burst', *to, '--seconds', '0.4', '--warm-up', 0, '--burst', 40, '--rate', 400))
            self.assertEqual((load['requests'], load['connections']), (160, 100))
            load = self.check(measure('idle', '--port', mapper.port, *SHORT, '--idle', 1500, '--sources', '3'))
            self.assertEqual(load['idle'], {'connections': 1500, 'open_at_end': 1500})
            # All that was registered for a measurement has left after it.
            harness.wait_until(lambda: mapper.names() == [], 'all have left')

    def test_a_storm_asks_for_each_name_once(self):
        with Mapper(args=['-d', '-d']) as mapper:
            load = self.check(measure('storm', '--port', mapper.port, '--nodes', 500))
            self.assertEqual((load['requests'], load['storm']['listed']), (500, 500))
            with open(mapper.log_path) as log:
                names = re.findall(r'registered (\S+) at', log.read())
        # A connection that got its reply while others were opened did not make a second request.
        self.assertEqual(len(names), 500)
        self.assertEqual(len({re.sub(r'n\d+$', '', name) for name in names}), 500)

    def test_what_cannot_be_asked_is_said(self):
        for arguments, complaint in ((['lookup', '--nodes', '0'], 'no nodes to look up'),
                                     (['lookup', '--nodes', '0', '--compare', '127.0.0.1:1,127.0.0.1:2'], 'no nodes to look up'),
                                     (['compare', '--stock', 'a', '--ours', 'b', '--nodes', '0'], 'no nodes to look up'),
                                     (['mixed', '--known', '0', '--unknown', '0', '--names', '0', '--register', '0'], 'share'),
                                     (['mixed', '--names', '-1'], 'share')):
            with self.subTest(arguments):
                self.assertIn(complaint, run(BENCH, *arguments, exit_code=1).stderr)

    def test_open_loop_makes_the_requests_it_is_told_to(self):
        with Mapper() as mapper:
            load = self.check(measure('lookup', '--port', mapper.port, '--rate', 500, '--seconds', '0.4', '--poisson'))
            self.assertGreater(load['requests'], 100)
            load = self.check(measure('lookup', '--port', mapper.port, '--rate', 500, '--seconds', '0.4', '--warm-up', 0))
            self.assertEqual(load['requests'], 200)

    def test_wrong_replies_are_counted_by_kind(self):
        with Floor() as floor:
            # It registers nobody, so that there is nobody to be looked up.
            run(BENCH, 'lookup', '--port', floor.port, exit_code=1)
            load = measure('lookup', '--port', floor.port, '--nodes', '0', '--unknown', '1', *SHORT)['load']
            self.assertEqual(load['wrong'], 0)
            load = measure('names', '--port', floor.port, '--nodes', '0', *SHORT, exit_code=1)['load']
            self.assertEqual(load['outcomes'], {'malformed': load['requests']})
        nobody = run(BENCH, 'lookup', '--port', harness.free_port(), exit_code=1)
        self.assertIn('epmd-bench: ', nobody.stderr)

    def test_two_servers_in_turn(self):
        with Mapper() as one, Mapper() as other:
            document = measure('lookup', '--compare', f'127.0.0.1:{one.port},127.0.0.1:{other.port}', '--rounds', 3,
                               '--pid', f'{one.pid},{other.pid}', '--nodes', 5, *SHORT)
        comparison = document['comparisons'][0]['comparison']
        self.assertEqual(comparison['wrong'], 0)
        metrics = {metric['name']: metric for metric in comparison['metrics']}
        self.assertIn('cpu_us', metrics)
        self.assertEqual(len(metrics['p50_us']['second_samples']), 3)

    def test_restart_runs_the_command_under_load(self):
        with Mapper() as mapper, tempfile.TemporaryDirectory() as directory:
            mark = os.path.join(directory, 'mark')
            load = self.check(measure('restart', '--port', mapper.port, '--nodes', 20, '--seconds', '0.4', '--after', '0.1',
                                      '--command', f'touch {mark}'))
            self.assertTrue(os.path.exists(mark))
            self.assertEqual(load['restart']['exit_code'], 0)
            self.assertEqual(load['restart']['registrations_lost'], 0)
            self.assertEqual(load['restart']['connections_lost'], 0)
            measure('restart', '--port', mapper.port, '--seconds', '0.3', '--after', '0', '--command', 'exit 3', exit_code=1)

    def test_restart_tells_what_was_lost(self):
        with Mapper(args=['-no_keeper']) as mapper:
            load = measure('restart', '--port', mapper.port, '--nodes', 20, '--seconds', '0.5', '--after', '0.1', '--old-nodes',
                           '--command', f'kill -9 {mapper.pid}', exit_code=1)['load']
        self.assertEqual(load['restart']['connections_lost'], 20)
        self.assertEqual(load['restart']['registrations_lost'], 20)
        self.assertGreater(load['outcomes']['connection_refused'], 0)
        self.assertGreater(load['longest_gap_ms'], 100)

    @unittest.skipUnless(shutil.which('erl') and harness.STOCK_EPMD, 'no Erlang/OTP here')
    def test_mesh_of_erlang_nodes(self):
        mesh = measure('mesh', '--stock', harness.STOCK_EPMD, '--ours', harness.EPMD, '--nodes', 3, '--rounds', 2)['mesh']
        for metric in mesh['metrics']:
            self.assertEqual((len(metric['first_samples']), len(metric['second_samples'])), (2, 2))
        connected = mesh['metrics'][0]
        self.assertEqual(connected['name'], 'all_ms')
        self.assertGreater(min(connected['first_samples'] + connected['second_samples']), 0)

    def test_mesh_says_what_a_node_said_that_did_not_start(self):
        with tempfile.TemporaryDirectory() as directory:
            erl = pathlib.Path(directory, 'erl')
            erl.write_text('#!/bin/sh\necho no emulator here >&2\nexit 1\n')
            erl.chmod(0o755)
            said = run(BENCH, 'mesh', '--stock', harness.EPMD, '--ours', harness.EPMD, '--erl', erl, '--nodes', 2, exit_code=1)
        self.assertIn('node 1 of 2 ended', said.stderr)
        self.assertIn('no emulator here', said.stderr)

    def test_report_is_one_page_with_the_same_figures(self):
        with Mapper() as mapper, tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'report.html')
            document = measure('lookup', '--port', mapper.port, *SHORT, '--report', path)
            page = pathlib.Path(path).read_text(encoding='utf-8')
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1)
        self.assertEqual(json.loads(data), document)
        self.assertIsNone(re.search(r'src=|href=|@import|url\(', page))

    def test_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(('::1', 0))
        except OSError:
            self.skipTest('no IPv6 here')
        with Mapper() as mapper:
            self.check(measure('lookup', '--address', '::1', '--port', mapper.port, *SHORT))


class RegressionGuardTest(unittest.TestCase):

    def test_measures_and_compares(self):
        if harness.STOCK_EPMD is None:
            self.skipTest('no epmd of Erlang/OTP here')
        with tempfile.TemporaryDirectory() as directory:
            before = os.path.join(directory, 'before')
            subprocess.run([ROOT / 'bench/run-all', '--quick', '--build', BUILD, before], check=True, timeout=TIMEOUT_S,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           env=harness.clean_environment(STOCK_EPMD=harness.STOCK_EPMD))
            self.assertIn(' 0 worse', run(ROOT / 'bench/compare-results', before, before).stdout)

            # A lookup that costs twice as much, ten times measured.
            path = pathlib.Path(before, 'protocol_benchmark.json')
            content = json.loads(path.read_text())
            for name, factor in (('fast', 1.0), ('slow', 2.0)):
                changed = dict(content, benchmarks=[
                    dict(content['benchmarks'][0], run_name='lookup', run_type='iteration', cpu_time=factor * (100 + i))
                    for i in range(10)])
                os.mkdir(os.path.join(directory, name))
                pathlib.Path(directory, name, path.name).write_text(json.dumps(changed))
            fast, slow = os.path.join(directory, 'fast'), os.path.join(directory, 'slow')
            self.assertIn('0 better, 1 worse', run(ROOT / 'bench/compare-results', fast, slow, exit_code=1).stdout)
            self.assertIn('1 better, 0 worse', run(ROOT / 'bench/compare-results', slow, fast).stdout)


if __name__ == '__main__':
    unittest.main()
