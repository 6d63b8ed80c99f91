"""Real nodes: erl, iex and a C node on the mapper under test, on a port of its own and on the default one."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import ErlangNode

DEFAULT_PORT = 4369


def hostname_addresses():
    """Loopback and what the host's name stands for: net_adm:names/0 asks there."""
    addresses = [harness.HOST]
    with contextlib.suppress(OSError):
        for address in socket.gethostbyname_ex(socket.gethostname())[2]:
            if address not in addresses:
                addresses.append(address)
    return ','.join(addresses)


@harness.have_erlang
class NodesTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-nodes-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def mapper(self, **options):
        mapper = harness.Mapper(address=hostname_addresses(), **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def node(self, name, port, shell='erl', **options):
        node = ErlangNode(name, port, self.directory, shell, **options)
        self.addCleanup(node.close)
        return node

    def ports_by_epmd_names(self, port):
        done = harness.run_epmd('-names', port=port, env={'ERL_EPMD_PORT': port})
        self.assertEqual(done.returncode, 0, done)
        text = done.stdout.decode()
        self.assertTrue(text.startswith(f'epmd: up and running on port {port} with data:\n'), text)
        return {name: int(number) for name, number in re.findall(r'^name (\S+) at port (\d+)$', text, re.M)}

    def check_nodes_agree(self, mapper, iex=True):
        one = self.node('one@localhost', mapper.port)
        two = self.node('two@localhost', mapper.port)
        three = self.node('three@localhost', mapper.port, shell='iex' if iex and shutil.which('iex') else 'erl')

        self.assertEqual(one.evaluate('node()'), 'one@localhost')
        self.assertEqual(two.evaluate('node()'), 'two@localhost')
        self.assertIn('three@localhost', three.evaluate('Node.self()' if three._shell == 'iex' else 'node()'))
        names = ('one', 'two', 'three')
        ports = {name: mapper.wait_registered(name.encode()).port for name in names}
        self.assertEqual(len(set(ports.values())), 3)
        for name in names:
            found = mapper.lookup(name.encode())
            self.assertEqual((found.node_type, found.protocol), (77, 0))
            self.assertEqual(found.highest, 6)

        # All ways to ask agree.
        self.assertEqual(self.ports_by_epmd_names(mapper.port), ports)
        for call in ('net_adm:names()', 'net_adm:names(localhost)', 'erl_epmd:names("localhost")'):
            value = one.evaluate(call)
            self.assertTrue(value.startswith('{ok,['), value)
            self.assertEqual({name: int(port) for name, port in re.findall(r'\{"(\w+)",(\d+)\}', value)}, ports, call)
        if three._shell == 'iex':
            value = three.evaluate(':net_adm.names()')
            self.assertTrue(value.startswith('{:ok, ['), value)
            found = re.findall(r"\{(?:'|~c\")(\w+)['\"], (\d+)\}", value)
            self.assertEqual({name: int(port) for name, port in found}, ports)
        for name in names:
            self.assertEqual(one.evaluate(f'erl_epmd:port_please("{name}", "localhost")'), f'{{port,{ports[name]},6}}')
            self.assertEqual(two.evaluate(f'erl_epmd:port_please("{name}", {{127,0,0,1}})'), f'{{port,{ports[name]},6}}')
        self.assertEqual(one.evaluate('erl_epmd:port_please("nobody", "localhost")'), 'noport')

        self.assertEqual(one.evaluate("net_adm:ping('two@localhost')"), 'pong')
        self.assertEqual(two.evaluate("net_adm:ping('three@localhost')"), 'pong')
        self.assertEqual(one.evaluate("net_adm:ping('nobody@localhost')"), 'pang')
        if three._shell == 'iex':
            self.assertEqual(three.evaluate('Node.ping(:"one@localhost")'), ':pong')
        self.assertIn('two@localhost', one.evaluate('nodes()'))

        # A node that goes away disappears, whether it says goodbye or not.
        two.halt()
        mapper.wait_gone(b'two')
        three.kill()
        mapper.wait_gone(b'three')
        self.assertEqual(self.ports_by_epmd_names(mapper.port), {'one': ports['one']})
        self.assertEqual(one.evaluate("net_adm:ping('two@localhost')"), 'pang')

        # And comes back.
        two = self.node('two@localhost', mapper.port)
        self.assertEqual(two.evaluate("net_adm:ping('one@localhost')"), 'pong')
        self.assertEqual(set(self.ports_by_epmd_names(mapper.port)), {'one', 'two'})

    def test_nodes_on_another_port(self):
        self.check_nodes_agree(self.mapper())

    def test_nodes_on_the_default_port(self):
        for host in ('0.0.0.0', '127.0.0.1'):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, DEFAULT_PORT))
                except OSError as error:
                    self.skipTest(f'port {DEFAULT_PORT} is in use here: {error}')
        self.check_nodes_agree(self.mapper(port=DEFAULT_PORT))

    def test_second_node_of_the_same_name(self):
        mapper = self.mapper()
        first = self.node('same@localhost', mapper.port)
        self.assertEqual(first.evaluate('node()'), 'same@localhost')
        port = mapper.lookup(b'same').port
        second = self.node('same@localhost', mapper.port)
        second._process.wait(harness.PATIENCE_S)
        self.assertNotEqual(second._process.returncode, 0)
        self.assertEqual(mapper.lookup(b'same').port, port)
        self.assertEqual(first.evaluate('node()'), 'same@localhost')

    def test_unicode_name(self):
        mapper = self.mapper()
        node = self.node('plain@localhost', mapper.port)
        self.assertEqual(node.evaluate('node()'), 'plain@localhost')
        held, _ = mapper.register('größe'.encode(), port=4711)
        self.addCleanup(held.close)
        utf8 = list('größe'.encode())
        self.assertEqual(node.evaluate(f'erl_epmd:port_please({utf8}, "localhost")'), '{port,4711,6}')

    def test_mapper_started_by_erl(self):
        port = harness.free_port()
        options = '' if harness.TESTING_STOCK else f' -loop {harness.LOOP}'
        env = {'ERL_EPMD_ADDRESS': hostname_addresses(), 'RUNTIME_DIRECTORY': self.directory}
        node = ErlangNode('auto@localhost', port, self.directory, epmd_command=f'"{harness.EPMD}" -daemon{options}', env=env)
        self.addCleanup(node.close)
        try:
            self.assertEqual(node.evaluate('node()'), 'auto@localhost')
            mapper = harness.Client(port)
            own_port = mapper.wait_registered(b'auto').port
            pids = harness.listeners(port)
            self.assertTrue(pids)
            for pid in pids:
                self.assertEqual(os.path.realpath(f'/proc/{pid}/exe'), os.path.realpath(harness.EPMD))
                self.assertNotEqual(os.getsid(pid), os.getsid(node.pid))

            # The next node's attempt to start one finds it and is content.
            other = ErlangNode('other@localhost', port, self.directory, epmd_command=f'"{harness.EPMD}" -daemon{options}',
                               env=env)
            self.addCleanup(other.close)
            self.assertEqual(other.evaluate("net_adm:ping('auto@localhost')"), 'pong')
            self.assertEqual(harness.listeners(port), pids)
            self.assertEqual(self.ports_by_epmd_names(port)['auto'], own_port)
            self.assertEqual(set(self.ports_by_epmd_names(port)), {'auto', 'other'})

            # It outlives the node that started it.
            node.kill()
            mapper.wait_gone(b'auto')
            self.assertIsNotNone(mapper.lookup(b'other'))
        finally:
            for pid in harness.listeners(port):
                harness.end_process(pid)

    def test_c_node(self):
        compiler = shutil.which('cc')
        if compiler is None:
            self.skipTest('no C compiler here')
        program = os.path.join(self.directory, 'cnode')
        done = subprocess.run([compiler, '-O1', '-Wall', '-pthread', os.path.join(harness.ROOT, 'tests', 'fixtures', 'cnode.c'), '-o', program, '-lei'],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 and re.search(r'ei\.h: No such file|cannot find -lei', done.stderr):
            self.skipTest('no ei library here (Debian: erlang-dev)')
        self.assertEqual(done.returncode, 0, done.stderr)
        mapper = self.mapper()
        c_node = subprocess.Popen([program, 'cnode', ErlangNode.COOKIE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE,
                                  env=harness.clean_environment(ERL_EPMD_PORT=mapper.port, HOME=self.directory))
        try:
            line = c_node.stdout.readline().decode()
            self.assertRegex(line, r'^registered \d+$', 'the C node said nothing')
            port = int(line.split()[1])
            found = mapper.lookup(b'cnode')
            self.assertEqual((found.port, chr(found.node_type)), (port, 'h'))  # what ei calls hidden
            erl = self.node('erl@localhost', mapper.port)
            self.assertEqual(erl.evaluate("net_adm:ping('cnode@localhost')"), 'pong')
            self.assertRegex(erl.evaluate('erl_epmd:port_please("cnode", "localhost")'), rf'^{{port,{port},\d}}$')
            self.assertEqual(set(self.ports_by_epmd_names(mapper.port)), {'cnode', 'erl'})
            c_node.stdin.close()
            self.assertEqual(c_node.wait(harness.PATIENCE_S), 0)
            mapper.wait_gone(b'cnode')
        finally:
            if c_node.poll() is None:
                c_node.kill()
            c_node.wait()
            for stream in (c_node.stdin, c_node.stdout, c_node.stderr):
                stream.close()


if __name__ == '__main__':
    unittest.main()
