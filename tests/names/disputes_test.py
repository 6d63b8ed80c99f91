"""Names that somebody else holds: what the operator is told, who loses a name, and who waits for one."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import as_root_only, custody, have_erlang
from harness.epmdctl import epmdctl, lookup, status
from harness.mapper import Kept
from harness.network import user

OWNER = 64101  # users that no machine has
OTHER = 64102


def lines_of(mapper, pattern):
    return re.findall(pattern, mapper.log())


@harness.ours_only
class ToldTest(unittest.TestCase):
    """Without -d."""

    def node(self, mapper, name):
        listener = socket.create_server((harness.HOST, 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        connection, _ = mapper.register(name, port=port)
        self.addCleanup(connection.close)
        # Whose it is, is found out after the registration.
        harness.wait_until(lambda: lookup(mapper, name.decode())['uid'] is not None, 'the user is known')
        return port

    def refuse(self, mapper, name):
        connection, reply = mapper.alive2(name)
        connection.close()
        self.assertEqual(harness.alive2_result(reply)[0], 1)

    def test_a_refused_registration(self):
        with harness.Mapper() as mapper:
            port = self.node(mapper, b'rabbit')
            self.node(mapper, b'ejabberd')
            for _ in range(20):
                self.refuse(mapper, b'rabbit')
            self.refuse(mapper, b'ejabberd')
            lines = lines_of(mapper, r'node rabbit is refused: (.*)')
            self.assertEqual(len(lines), 1, lines)
            self.assertIn(f'held by user {os.geteuid()}', lines[0])
            self.assertIn(f'process {os.getpid()}', lines[0])
            self.assertIn(f'at port {port} since 20', lines[0])
            self.assertIn('connected', lines[0])
            self.assertRegex(lines[0], rf'asked for by user {os.geteuid()} .*from 127\.0\.0\.1')
            self.assertEqual(len(lines_of(mapper, 'node ejabberd is refused: it is held')), 1)

    @as_root_only
    def test_who_holds_it_and_who_asks(self):
        with harness.Mapper() as mapper:
            with user(OWNER):
                listener = socket.create_server((harness.HOST, 0))
                connection, _ = mapper.register(b'rabbit', port=listener.getsockname()[1])
            self.addCleanup(listener.close)
            self.addCleanup(connection.close)
            harness.wait_until(lambda: lookup(mapper, 'rabbit')['uid'] == OWNER, 'the user is known')
            with user(OTHER):
                self.refuse(mapper, b'rabbit')
            line, = lines_of(mapper, r'node rabbit is refused: (.*)')
            self.assertIn(f'held by user {OWNER},', line)
            self.assertIn(f'asked for by user {OTHER} from', line)

    def test_an_orphan_that_lives(self):
        with harness.Mapper() as mapper:
            self.node(mapper, b'rabbit')
            mapper.stop(signal.SIGKILL)
            mapper.start()
            harness.wait_until(lambda: status(mapper)['orphaned'] == 1, 'it is an orphan')
            self.refuse(mapper, b'rabbit')
            line, = lines_of(mapper, r'node rabbit is refused: (.*)')
            self.assertIn('(orphaned) since 20', line)

    def test_a_name_with_control_characters(self):
        with harness.Mapper() as mapper:
            for _ in range(3):
                self.refuse(mapper, b'a\nname b at port 1')
            line, = lines_of(mapper, r'node a.* is refused: (.*)')
            self.assertIn('no control characters', line)

    def test_what_is_no_request(self):
        with harness.Mapper() as mapper:
            for _ in range(10):
                mapper.raw(b'GET / HTTP/1.0\r\n\r\n')
            line, = lines_of(mapper, '.*what it sent is no request.*')
            self.assertIn('127.0.0.1', line)
            self.assertGreaterEqual(status(mapper)['counters']['closed_malformed'], 10)

    def test_stop_and_kill(self):
        with harness.Mapper() as mapper:
            self.node(mapper, b'rabbit')
            before = status(mapper)['counters']['closed_malformed']
            for _ in range(10):
                self.assertEqual(mapper.stop_node(b'rabbit'), b'')
                self.assertEqual(mapper.kill(), b'NO')
            self.assertEqual(len(lines_of(mapper, 'stop is refused to 127.0.0.1.*-relaxed_command_check')), 1)
            self.assertEqual(len(lines_of(mapper, 'KILL from 127.0.0.1 is refused: nodes are registered')), 1)
            counters = status(mapper)['counters']
            self.assertEqual(counters['stop_refused'], 10)
            self.assertEqual(counters['closed_malformed'], before)

    def test_memory_is_bounded(self):
        with harness.Mapper() as mapper:
            for number in range(1000):
                self.refuse(mapper, b'\x01%d' % number)
            self.assertLessEqual(len(lines_of(mapper, r'is refused: a name has')), 256)


@harness.ours_only
class TakenOverTest(unittest.TestCase):
    """A node lives as long as it listens."""

    def test_a_child_that_keeps_the_socket(self):
        with harness.Mapper() as mapper:
            listener = socket.create_server((harness.HOST, 0))
            port = listener.getsockname()[1]
            connection, creation = mapper.register(b'rabbit', port=port)
            # Only then the mapper knows what to look for.
            time.sleep(1.5)
            kept = os.dup(connection.fileno())  # as a child has it
            self.addCleanup(os.close, kept)
            refused, reply = mapper.alive2(b'rabbit')
            refused.close()
            self.assertEqual(harness.alive2_result(reply)[0], 1, 'it listens')
            listener.close()
            connection.close()
            with mapper.register(b'rabbit', port=port)[0]:
                self.assertEqual(len(mapper.names()), 1)
                self.assertEqual(len(lines_of(mapper, f'nobody listens on its port {port} any more')), 1)
                self.assertEqual(status(mapper)['counters']['holders_found_gone'], 1)

    def test_one_of_another_network_namespace_is_left_alone(self):
        with harness.Mapper() as mapper:
            # Its socket was never seen, so nothing is proved.
            connection, _ = mapper.register(b'rabbit', port=9)
            with connection:
                time.sleep(1.5)
                refused, reply = mapper.alive2(b'rabbit', port=9)
                refused.close()
                self.assertEqual(harness.alive2_result(reply)[0], 1)


@harness.ours_only
class WaitTest(unittest.TestCase):
    """-name_wait."""

    def waiting(self, mapper, name, **description):
        """A registration that waits."""
        connection = mapper.connect()
        connection.sendall(harness.frame(harness.alive2_body(name, **description)))
        self.addCleanup(connection.close)
        return connection

    def test_a_holder_that_ends(self):
        with harness.Mapper(['-name_wait', '20']) as mapper:
            holder, first = mapper.register(b'rabbit')
            waiting = self.waiting(mapper, b'rabbit', port=4711)
            waiting.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                waiting.recv(1)
            self.assertEqual(mapper.lookup(b'rabbit').port, 1234, 'nobody else waits')
            holder.close()
            waiting.settimeout(harness.PATIENCE_S)
            result, creation = harness.alive2_result(harness.receive_alive2_reply(waiting))
            self.assertEqual(result, 0)
            self.assertNotEqual(creation, first)
            self.assertEqual(mapper.lookup(b'rabbit').port, 4711)

    def test_a_holder_that_stays(self):
        with harness.Mapper(['-name_wait', '1']) as mapper:
            holder, _ = mapper.register(b'rabbit')
            with holder:
                begin = time.monotonic()
                refused, reply = mapper.alive2(b'rabbit')
                refused.close()
                self.assertEqual(harness.alive2_result(reply)[0], 1)
                self.assertGreaterEqual(time.monotonic() - begin, 0.9)
                self.assertEqual(len(lines_of(mapper, 'node rabbit is refused: it is held')), 1)

    def test_off_by_default(self):
        with harness.Mapper() as mapper:
            holder, _ = mapper.register(b'rabbit')
            with holder:
                waiting = self.waiting(mapper, b'rabbit')
                self.assertEqual(harness.alive2_result(harness.receive_alive2_reply(waiting))[0], 1)

    def test_so_many_wait(self):
        with harness.Mapper(['-name_wait', '30']) as mapper:
            holder, _ = mapper.register(b'rabbit')
            waiting = [self.waiting(mapper, b'rabbit') for _ in range(64)]
            # The worker takes them in any order, but no more.
            late = []
            def is_refused():
                late.append(self.waiting(mapper, b'rabbit'))
                late[-1].settimeout(1)
                try:
                    return harness.alive2_result(harness.receive_alive2_reply(late[-1]))[0] == 1
                except TimeoutError:
                    return False
            harness.wait_until(is_refused, 'one more is refused at once')
            # Those that have given up wait no longer.
            for connection in waiting + late:
                connection.close()
            # Until the mapper has seen that, one more is refused as before.
            harness.wait_until(lambda: not is_refused(), 'one more waits')
            holder.close()
            late[-1].settimeout(harness.PATIENCE_S)
            self.assertEqual(harness.alive2_result(harness.receive_alive2_reply(late[-1]))[0], 0)

    def test_who_waits_is_answered_when_the_mapper_ends(self):
        with harness.Mapper(['-name_wait', '60']) as mapper:
            holder, _ = mapper.register(b'rabbit')
            with holder:
                waiting = self.waiting(mapper, b'rabbit')
                time.sleep(0.3)
                mapper.stop()
                self.assertEqual(harness.alive2_result(harness.receive_alive2_reply(waiting))[0], 1)

    @have_erlang
    def test_real_nodes(self):
        """A node that is stopped and started at once, while the old one takes its time."""
        directory = pathlib.Path(tempfile.mkdtemp(prefix='evermap-test-'))
        self.addCleanup(shutil.rmtree, directory)
        with harness.Mapper(['-name_wait', '9'], address=None) as mapper:
            environment = harness.clean_environment(ERL_EPMD_PORT=str(mapper.port), HOME=str(directory))
            erl = ['erl', '-noinput', '-noshell', '-sname', 'rabbit', '-setcookie', 'x']
            # It ends three seconds after it was told to.
            first = subprocess.Popen([*erl, '-eval', 'timer:sleep(3000), halt().'], env=environment,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.addCleanup(first.wait)
            mapper.wait_registered(b'rabbit')
            # A port of its own, so the second one is not taken for the first.
            second = subprocess.run([*erl, '-eval', 'io:format("~p~n", [node()]), halt().'], env=environment,
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE_S,
                                    check=False)
            self.assertIn("rabbit@", second.stdout, second)
            self.assertEqual(second.returncode, 0, second)


@harness.ours_only
class ForgetTest(unittest.TestCase):
    """epmdctl forget."""

    def test_a_connected_node(self):
        with harness.Mapper() as mapper:
            connection, _ = mapper.register(b'rabbit', port=4711)
            with connection:
                harness.wait_until(lambda: lookup(mapper, 'rabbit')['uid'] is not None, 'the user is known')
                done = epmdctl(mapper, 'forget', 'rabbit')
                self.assertEqual(done.returncode, 0, done)
                self.assertRegex(done.stdout, rf'rabbit is registered no more. It was live at port 4711 since 20.*of user {os.geteuid()}')
                self.assertTrue(harness.sees_close(connection))
                self.assertEqual(mapper.names(), [])
                self.assertEqual(len(lines_of(mapper, 'node rabbit is unregistered: user .* has asked for it')), 1)
                self.assertFalse(os.path.exists(mapper.registry + '.forget'))
                self.assertEqual(epmdctl(mapper, 'forget', 'rabbit').returncode, 1)

    def test_an_orphan(self):
        with harness.Mapper() as mapper, socket.create_server((harness.HOST, 0)) as listener:
            self.addCleanup(custody.orphan(mapper, b'rabbit', listener).close)
            done = epmdctl(mapper, 'forget', 'rabbit')
            self.assertIn('It was orphaned', done.stdout)
            self.assertEqual(mapper.names(), [])

    def test_several_at_a_time(self):
        with harness.Mapper() as mapper:
            nodes = [mapper.register(b'node%d' % number)[0] for number in range(8)]
            codes = []
            threads = [threading.Thread(target=lambda n=number: codes.append(epmdctl(mapper, 'forget', f'node{n}').returncode))
                       for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for node in nodes:
                node.close()
            self.assertEqual(codes, [0] * 8)
            self.assertEqual(mapper.names(), [])

    def test_under_a_keeper(self):
        """What is forgotten does not come back with the next mapper."""
        with Kept() as mapper:
            connection, _ = mapper.register(b'rabbit')
            with connection:
                harness.wait_until(lambda: status(mapper)['counters']['stored'], 'it is stored')
                self.assertEqual(epmdctl(mapper, 'forget', 'rabbit').returncode, 0)
                before = mapper.mapper_pid()
                os.kill(before, signal.SIGKILL)
                harness.wait_until(lambda: mapper.mapper_pid() != before and status(mapper)['running'], 'the next one runs')
                self.assertEqual(mapper.names(), [])

    @as_root_only
    def test_others_may_not(self):
        with harness.Mapper() as mapper:
            os.chmod(mapper.directory, 0o755)
            connection, _ = mapper.register(b'rabbit')
            with connection:
                done = subprocess.run(['setpriv', '--reuid', str(OTHER), '--regid', str(OTHER), '--clear-groups', harness.EPMDCTL,
                                       '--registry', mapper.registry, 'forget', 'rabbit'], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 1, done)
                self.assertEqual(len(mapper.names()), 1)

    def test_no_mapper(self):
        with harness.Mapper() as mapper, socket.create_server((harness.HOST, 0)) as listener:
            connection, _ = mapper.register(b'rabbit', port=listener.getsockname()[1])
            self.addCleanup(connection.close)
            mapper.stop(signal.SIGKILL)
            self.assertEqual(epmdctl(mapper, 'forget', 'rabbit').returncode, 3)

    @have_erlang
    def test_a_real_node_comes_back(self):
        directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, directory)
        with harness.Mapper(address=None) as mapper, harness.ErlangNode('rabbit', mapper.port, directory) as node:
            mapper.wait_registered(b'rabbit')
            self.assertEqual(epmdctl(mapper, 'forget', 'rabbit').returncode, 0)
            mapper.wait_registered(b'rabbit')
            self.assertIn('rabbit@', node.evaluate('node()'))


if __name__ == '__main__':
    unittest.main()
