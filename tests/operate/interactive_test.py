"""The mapper's program as a command, beside the stock one: the same output and exit codes, byte for byte."""

import socket
import subprocess
import threading
import unittest

import harness
from harness import Mapper


def ask(program, port, *args):
    """(exit code, standard output, standard error)"""
    done = subprocess.run([program, '-port', str(port), *args], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=harness.PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


class Case(unittest.TestCase):

    def assert_same(self, port, *args):
        theirs = ask(harness.STOCK_EPMD, port, *args)
        ours = ask(harness.EPMD, port, *args)
        self.assertEqual(ours, theirs, args)
        return ours


class SameAsStockTest(Case):

    def test_names_and_dump(self):
        with Mapper() as mapper:
            self.assert_same(mapper.port, '-names')
            nodes = [mapper.register(name, port=5000 + i)[0]
                     for i, name in enumerate([b'hare', 'häsin'.encode(), b'x' * 255])]
            for args in (['-names'], ['-started'], ['-dump']):
                code, output, _ = self.assert_same(mapper.port, *args)
                self.assertEqual(code, 0)
                if args == ['-names']:
                    self.assertIn(b'name hare at port 5000\n', output)
            for node in nodes:
                node.close()

    def test_kill(self):
        with Mapper() as mapper:
            node, _ = mapper.register(b'hare', port=5000)
            self.assert_same(mapper.port, '-kill')
            self.assertEqual(len(mapper.names()), 1)
            node.close()
            harness.wait_until(lambda: not mapper.names(), 'the node is gone')
            self.assertEqual(ask(harness.EPMD, mapper.port, '-kill')[:2], (0, b'Killed\n'))

    def test_stop(self):
        for args in ([], ['-relaxed_command_check']):
            with Mapper(args=args) as mapper:
                held = [mapper.register(name, port=5000)[0] for name in (b'hare', b'hedgehog')]
                theirs = ask(harness.STOCK_EPMD, mapper.port, '-stop', 'hare')
                ours = ask(harness.EPMD, mapper.port, '-stop', 'hedgehog')
                self.assertEqual(ours, theirs, args)
                self.assert_same(mapper.port, '-stop', 'nobody')
                self.assertEqual(len(mapper.names()), 0 if args else 2)
                for node in held:
                    node.close()

    def test_without_a_mapper(self):
        with Mapper() as mapper:
            port = mapper.port
        harness.wait_until(lambda: not harness.listeners(port), 'the port is free')
        for args in (['-names'], ['-started'], ['-dump'], ['-kill'], ['-stop', 'hare']):
            self.assert_same(port, *args)


class NoMapper:
    """Answers on a port, to every request the same, and is no mapper."""

    def __init__(self, answer, host='127.0.0.1'):
        self.port = harness.free_port()
        self._answer = answer
        self._listener = socket.create_server((host, self.port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(self._answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


class NoMapperTest(Case):
    """What answers is none, or says nothing."""

    def test_no_answer(self):
        with NoMapper(b'') as other:
            for args in (['-names'], ['-dump'], ['-started'], ['-kill'], ['-stop', 'hare']):
                code, _, errors = ask(harness.EPMD, other.port, *args)
                self.assertEqual((code, errors), (1, b''), args)
            self.assertIn(b'no response', ask(harness.EPMD, other.port, '-names')[1])
            self.assertIn(b'responded with <>', ask(harness.EPMD, other.port, '-kill')[1])

    def test_another_answer(self):
        with NoMapper(b'O') as other:
            self.assertEqual(ask(harness.EPMD, other.port, '-kill')[:2], (1, b'epmd: local epmd responded with <>\n'))

    def test_long_name(self):
        with Mapper(args=['-relaxed_command_check']) as mapper:
            self.assert_same(mapper.port, '-stop', 'x' * 1001)
            self.assert_same(mapper.port, '-stop', 'x' * 1000)

    @unittest.skipUnless(socket.has_ipv6, 'no IPv6 here')
    def test_only_on_ipv6(self):
        with NoMapper(b'\0\0\1\0name hare at port 1\n', '::1') as other:
            code, output, _ = ask(harness.EPMD, other.port, '-names')
            self.assertEqual((code, output), (0, b'epmd: up and running on port 256 with data:\nname hare at port 1\n'))


class OursTest(unittest.TestCase):
    def test_help_and_version(self):
        for option, expected in (('-help', b'-packet_timeout'), ('-version', b'vermap')):
            done = subprocess.run([harness.EPMD, option], capture_output=True, timeout=harness.PATIENCE_S)
            self.assertEqual((done.returncode, done.stderr), (0, b''))
            self.assertIn(expected, done.stdout)


if __name__ == '__main__':
    unittest.main()
