"""epmdctl doctor on faults that are provoked for real: nodes that are in no mapper, other mappers, other networks, a firewall."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import as_root_only, have_erlang
from harness.epmdctl import FAILED, epmdctl

HOSTNAME = os.uname().nodename
# On which no mapper answers.
NOBODYS_PORT = 9


class Erl:
    """`erl` with these flags, until the end of the test."""

    def __init__(self, test, port, *flags, prefix=()):
        self._home = tempfile.mkdtemp(prefix='evermap-test-')
        environment = harness.clean_environment(HOME=self._home)
        if port is not None:
            environment['ERL_EPMD_PORT'] = str(port)
        self.process = subprocess.Popen([*prefix, 'erl', '-noshell', '-noinput', '-setcookie', 'x', '-start_epmd', 'false', *flags],
                                        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        test.addCleanup(self.close)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(harness.PATIENCE_S)
        shutil.rmtree(self._home, ignore_errors=True)


@harness.ours_only
class DoctorTest(unittest.TestCase):

    def mapper(self, *args, **options):
        mapper = harness.Mapper(args, **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def ask(self, mapper, *args, codes=(0, FAILED)):
        """[(check, result, text, advice)]"""
        done = epmdctl(mapper, '--json', 'doctor', *args)
        self.assertIn(done.returncode, codes, done)
        report = json.loads(done.stdout)
        self.assertEqual(report['failed'], done.returncode == FAILED)
        for check in report['checks']:
            # Each finding has a next step.
            self.assertTrue(check['result'] == 'ok' or check['advice'], check)
        return report['checks']

    def find(self, mapper, check, *args):
        return [one for one in self.ask(mapper, *args) if one['check'] == check]

    def awaited(self, mapper, words, *args, check='nodes elsewhere'):
        def look():
            return [one for one in self.find(mapper, check, *args) if words in one['text']]
        return harness.wait_until(look, lambda: f'{words}: {self.ask(mapper, *args)}')[0]

    def discovery_module(self):
        """The directory of a module that nodes can be given in the place of erl_epmd, and that asks nobody."""
        directory = tempfile.mkdtemp(prefix='evermap-discovery-')
        self.addCleanup(shutil.rmtree, directory)
        source = os.path.join(directory, 'my_discovery.erl')
        with open(source, 'w') as file:
            file.write('-module(my_discovery).\n'
                       '-export([start_link/0, register_node/2, register_node/3, port_please/2, names/1]).\n'
                       'start_link() -> ignore.\n'
                       'register_node(_, _) -> {ok, 1}.\n'
                       'register_node(_, _, _) -> {ok, 1}.\n'
                       'port_please(_, _) -> noport.\n'
                       'names(_) -> {error, address}.\n')
        subprocess.run(['erlc', '-o', directory, source], check=True)
        return directory

    @have_erlang
    def test_nodes_that_are_in_no_mapper(self):
        mapper = self.mapper()
        mark = str(mapper.port)
        modules = self.discovery_module()
        for name, flags, port, words in (
                ('silent' + mark, ['-dist_listen', 'false'], mapper.port, '-dist_listen false'),
                # A mapper that answers is told of it all the same; here none does.
                ('fixed' + mark, ['-erl_epmd_port', str(harness.free_port())], NOBODYS_PORT, 'fixed port'),
                ('module' + mark, ['-pa', modules, '-epmd_module', 'my_discovery'], mapper.port, 'by the module my_discovery'),
                ('none' + mark, ['-pa', modules, '-epmd_module', 'my_discovery', '-no_epmd', '-proto_dist', 'inet_tcp'], mapper.port,
                 '-no_epmd'),
                ('elsewhere' + mark, [], self.mapper().port, 'with the mapper on port')):
            with self.subTest(name):
                Erl(self, port, '-sname', name, *flags)
                found = self.awaited(mapper, words, name)
                self.assertEqual(found['result'], 'warning')
                self.assertIn(f'node {name} runs as process', found['text'])
        with self.subTest('dynamic'):
            Erl(self, mapper.port, '-sname', 'undefined')
            self.assertEqual(self.awaited(mapper, 'its name is dynamic')['result'], 'ok')

    def test_which_epmd(self):
        mapper = self.mapper()
        found, = self.find(mapper, 'which epmd')
        self.assertEqual(found['result'], 'ok')
        self.assertRegex(found['text'], f'is Evermap, .*, with the registry {re.escape(mapper.registry)}$')

    def test_a_registry_alone_says_its_port(self):
        mapper = self.mapper()
        done = subprocess.run([harness.EPMDCTL, '--registry', mapper.registry, '--json', 'doctor'], stdin=subprocess.DEVNULL,
                              capture_output=True, env=harness.clean_environment(), check=True)
        self.assertEqual(json.loads(done.stdout)['port'], mapper.port)

    @unittest.skipUnless(os.path.exists(harness.STOCK_EPMD), 'no stock epmd')
    def test_the_stock_one_has_the_port(self):
        mapper = self.mapper()
        stock = harness.Mapper(stock=True)
        self.addCleanup(stock.close)
        stock.start()
        # It looks at the port of the stock one.
        mapper.port = stock.port
        found, = self.find(mapper, 'which epmd')
        self.assertEqual(found['result'], 'warning')
        self.assertRegex(found['text'], r'is the epmd of Erlang/OTP \(erts [0-9.]+\)')
        self.assertIn('CVE-2026-42792', found['text'])

    @as_root_only
    def test_a_mapper_in_another_network(self):
        mapper = self.mapper()
        with harness.TwoHosts() as hosts:
            with harness.Mapper(port=mapper.port, prefix=hosts.server_prefix) as other:
                with hosts.on_server():
                    connection, _ = other.register(b'hare')
                self.addCleanup(connection.close)
                found = [one for one in self.find(mapper, 'other networks', 'hare') if 'a node hare' in one['text']]
                self.assertEqual(found[0]['result'], 'warning')
                self.assertIn('nsenter', found[0]['advice'])

    @as_root_only
    @unittest.skipUnless(shutil.which('iptables'), 'no iptables')
    def test_a_firewall_that_drops(self):
        mapper = self.mapper()
        with harness.TwoHosts() as hosts:
            with harness.Mapper(port=mapper.port, prefix=hosts.server_prefix, address=None) as other, hosts.on_server():
                connection, _ = other.register(b'hare', port=4711)
                self.addCleanup(connection.close)
                done = subprocess.run(['iptables', '-A', 'INPUT', '-p', 'tcp', '-d', hosts.server_address, '-j', 'DROP'],
                                      capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    self.skipTest(done.stderr)
            with hosts.on_client():
                found, = self.find(mapper, 'mapper on the host', 'hare@' + hosts.server_address)
            self.assertEqual(found['result'], 'failed')
            self.assertIn('firewall', found['advice'])

    @have_erlang
    def test_one_reaches_another(self):
        mapper = self.mapper(address=None)
        Erl(self, mapper.port, '-sname', 'fox')
        Erl(self, mapper.port, '-sname', 'hare')
        mapper.wait_registered(b'fox')
        mapper.wait_registered(b'hare')
        checks = {one['check']: one for one in self.ask(mapper, 'fox@' + HOSTNAME, 'hare@' + HOSTNAME, codes=(0,))}
        self.assertEqual([checks[name]['result'] for name in (
            'first node', 'kinds of names', 'host', 'mapper there', 'name', "node's port", 'handshake', 'TLS')], ['ok'] * 8)
        self.assertIn(f'hare@{HOSTNAME}', checks['handshake']['text'])
        found, = self.find(mapper, 'kinds of names', 'fox', 'hare@a.long.name.invalid')
        self.assertEqual(found['result'], 'failed')
        found, = self.find(mapper, 'name', 'fox', 'cat@' + HOSTNAME)
        self.assertEqual(found['result'], 'failed')
        self.assertEqual(self.find(mapper, 'first node', 'cat', 'hare@' + HOSTNAME)[0]['result'], 'warning')

    @have_erlang
    @as_root_only
    def test_one_in_a_container_does_not_reach_another(self):
        mapper = self.mapper(address=None)
        with harness.TwoHosts() as hosts:
            Erl(self, mapper.port, '-sname', 'contained%d' % mapper.port, '-dist_listen', 'false', prefix=hosts.server_prefix)
            name = 'contained%d' % mapper.port
            harness.wait_until(lambda: self.find(mapper, 'first node', name, 'hare')[0]['result'] == 'ok', 'it runs')
            first, = self.find(mapper, 'first node', name, 'hare')
            self.assertIn('another network namespace', first['text'])
            # Here a mapper answers; there none does.
            there, = self.find(mapper, 'mapper there', name, 'hare')
            self.assertEqual(there['result'], 'failed')


if __name__ == '__main__':
    unittest.main()
