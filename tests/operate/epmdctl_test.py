"""epmdctl against real mappers, real nodes and a real terminal.

    EPMDCTL                   the program under test
    EPMD_NEXT_LAYOUT_BINARY   a mapper with another layout of the registry, to be upgraded to (epmd_next_layout)
    EPMDCTL_NEXT_LAYOUT       epmdctl that reads that layout, too
"""

import contextlib
import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest
import unittest.mock

import harness
from harness import Mapper, seccomp
from harness.environment import EPMDCTL
from harness.epmdctl import FAILED, NO_REGISTRY, arguments, environment, epmdctl

EPMD_NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY')
EPMDCTL_NEXT_LAYOUT = os.environ.get('EPMDCTL_NEXT_LAYOUT')
UTIMENSAT = 280  # of x86-64
HOSTNAME = socket.gethostname().split('.')[0]

ENTER_ALTERNATE, LEAVE_ALTERNATE = b'\x1b[?1049h', b'\x1b[?1049l'


class Case(unittest.TestCase):

    def mapper(self, start=True, **options):
        mapper = Mapper(**options)
        self.addCleanup(mapper.close)
        return mapper.start() if start else mapper

    def register(self, mapper, name, **description):
        connection, creation = mapper.register(name, **description)
        self.addCleanup(connection.close)
        return connection, creation

    def run_json(self, mapper, *args, code=0):
        done = epmdctl(mapper, '--json', *args)
        self.assertEqual(done.returncode, code, done)
        return json.loads(done.stdout)

    def listener(self, address=harness.HOST):
        listening = socket.create_server((address, 0))
        self.addCleanup(listening.close)
        return listening, listening.getsockname()[1]


@contextlib.contextmanager
def absent_mapper():
    """A Mapper that is not started, with a port that nobody listens on."""
    mapper = Mapper()
    try:
        yield mapper
    finally:
        mapper.close()


class LookupTest(Case):

    def test_each_way(self):
        mapper = self.mapper()
        _, creation = self.register(mapper, b'hare', port=4711)
        node = self.run_json(mapper, 'lookup', 'hare')
        self.assertEqual((node['via'], node['registry'], node['port'], node['creation'], node['state']),
                         ('shared memory', mapper.registry, 4711, creation, 'live'))
        node = self.run_json(mapper, 'lookup', 'hare@127.0.0.1')
        self.assertEqual((node['via'], node['mapper'], node['port'], node['creation'], node['state']),
                         ('tcp', {'host': '127.0.0.1', 'port': mapper.port}, 4711, None, 'registered'))
        self.assertIn('from shared memory, ' + mapper.registry, epmdctl(mapper, 'lookup', 'hare').stdout)
        self.assertIn(f'from the mapper on 127.0.0.1 port {mapper.port}', epmdctl(mapper, 'lookup', 'hare@127.0.0.1').stdout)
        for unknown in ('fox', 'fox@127.0.0.1'):
            done = epmdctl(mapper, 'lookup', unknown)
            self.assertEqual((done.returncode, done.stdout), (FAILED, ''), done)
            self.assertIn('fox', done.stderr)

    def test_without_a_registry(self):
        for stock in (False, True):
            if stock and not harness.STOCK_EPMD:
                continue
            mapper = self.mapper(stock=stock)
            self.register(mapper, b'hare', port=4711)
            mapper.registry += '.missing'
            node = self.run_json(mapper, 'lookup', 'hare')
            self.assertEqual((node['via'], node['port'], node['hidden']), ('tcp', 4711, False))

    def test_nobody_answers(self):
        with absent_mapper() as mapper:
            for name in ('hare', 'hare@127.0.0.1'):
                done = epmdctl(mapper, 'lookup', name)
                self.assertEqual(done.returncode, NO_REGISTRY, done)
                self.assertIn(f'port {mapper.port}', done.stderr)
            self.assertIn(mapper.registry, epmdctl(mapper, 'lookup', 'hare').stderr)
            self.assertEqual(epmdctl(mapper, 'lookup', 'hare@no-such-host.invalid').returncode, NO_REGISTRY)


class OutputTest(Case):

    def test_that_cannot_be_written(self):
        mapper = self.mapper()
        self.register(mapper, b'hare')
        for words in (['list'], ['lookup', 'hare'], ['status'], ['--json', 'list'], ['--json', 'status'], ['doctor']):
            with self.subTest(words), open('/dev/full', 'w') as full:
                done = subprocess.run(arguments(mapper, *words), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                                      text=True, env=environment(), timeout=60, check=False)
                self.assertEqual(done.returncode, FAILED, done)
                self.assertIn('standard output cannot be written', done.stderr)

    def test_of_a_registry_without_a_mapper(self):
        mapper = self.mapper()
        self.register(mapper, b'hare')
        self.assertEqual(epmdctl(mapper, 'list').stderr, '')
        mapper.stop()
        for words in (['list'], ['lookup', 'hare']):
            done = epmdctl(mapper, *words)
            self.assertEqual((done.returncode, done.stderr), (0, 'epmdctl: no mapper runs; this is what the last one has left\n'))
            self.assertIn('hare', done.stdout)


class NamesTest(Case):

    def check(self, mapper):
        for name, port in ((b'hare', 4711), (b'fox', 4712)):
            self.register(mapper, name, port=port)
        answer = self.run_json(mapper, 'names', 'localhost')
        self.assertEqual((answer['host'], answer['port']), ('localhost', mapper.port))
        self.assertEqual({(node['name'], node['port']) for node in answer['nodes']}, {('hare', 4711), ('fox', 4712)})
        done = epmdctl(mapper, 'names', '127.0.0.1')
        self.assertRegex(done.stdout, r'(?m)^hare +4711$')
        self.assertNotIn('\x1b', done.stdout)

    def test_ours(self):
        self.check(self.mapper())

    @unittest.skipUnless(harness.STOCK_EPMD, 'no stock epmd here')
    def test_stock(self):
        self.check(self.mapper(stock=True))

    def test_nobody_answers(self):
        with absent_mapper() as mapper:
            self.assertEqual(epmdctl(mapper, 'names', '127.0.0.1').returncode, NO_REGISTRY)


class Watch:
    """A running `epmdctl watch`, whose lines are read as they come. By itself it would look once in an hour: it is told."""

    def __init__(self, case, mapper, *args, interval_s=3600):
        self._process = subprocess.Popen(arguments(mapper, 'watch', '--interval', str(interval_s), *args), stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self._left = b''
        self.lines = []
        case.addCleanup(self.close)

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def next_line(self):
        def line():
            if b'\n' not in self._left:
                ready, _, _ = select.select([self._process.stdout], [], [], 0.05)
                self._left += os.read(self._process.stdout.fileno(), 1 << 16) if ready else b''
            return b'\n' in self._left
        harness.wait_until(line, lambda: f'another line; there were {self.lines}')
        first, self._left = self._left.split(b'\n', 1)
        self.lines.append(first.decode())
        return self.lines[-1]

    def event(self, kind, **fields):
        """The next event of this kind with these fields; what comes before is skipped."""
        while True:
            event = json.loads(self.next_line())
            if event['event'] == kind and all(event.get(key) == value for key, value in fields.items()):
                return event

    def end(self, signal_number):
        self._process.send_signal(signal_number)
        _, stderr = self._process.communicate(timeout=harness.PATIENCE_S)
        return self._process.returncode, stderr

    def close_output(self):
        self._process.stdout.close()
        return self._process.wait(harness.PATIENCE_S)


class WatchTest(Case):

    def test_nodes_come_and_go(self):
        mapper = self.mapper(start=False)
        watch = Watch(self, mapper, '--json')
        self.assertIn(mapper.registry, watch.event('waiting')['text'])
        mapper.start()
        watch.event('watching')
        connection, creation = self.register(mapper, b'hare', port=4711)
        event = watch.event('registered', name='hare')
        self.assertEqual((event['port'], event['creation']), (4711, creation))
        connection.close()
        event = watch.event('left', name='hare')
        self.assertRegex(event['time'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$')
        self.assertEqual(watch.end(signal.SIGINT), (0, b''))

    def test_restart_orphans_and_adoption(self):
        mapper = self.mapper()
        watch = Watch(self, mapper, '--json')
        watch.event('watching', pid=mapper.pid)
        node, creation = self.register(mapper, b'hare', port=4711)
        watch.event('registered', name='hare')
        pid = mapper.pid
        mapper.stop(signal.SIGKILL)
        watch.event('mapper_stopped', pid=pid)
        # A node that listens is not given up at once.
        with socket.create_server((harness.HOST, 0)) as listening:
            port = listening.getsockname()[1]
            mapper.start()
            watch.event('mapper_started', pid=mapper.pid, previous_pid=None)
            node.close()
            self.register(mapper, b'fox', port=port)
            watch.event('registered', name='fox')
            # The listener is looked at a moment after the registration.
            mapper.stop(signal.SIGKILL)
            mapper.start()
            watch.event('orphaned', name='fox')
            _, again = self.register(mapper, b'fox', port=port)
            self.assertEqual(watch.event('adopted', name='fox')['creation'], again)
        self.assertEqual(watch.end(signal.SIGTERM), (0, b''))

    @unittest.skipUnless(EPMD_NEXT_LAYOUT, 'EPMD_NEXT_LAYOUT_BINARY says where it is')
    @unittest.mock.patch('harness.epmdctl.EPMDCTL', EPMDCTL_NEXT_LAYOUT)
    def test_upgrade_to_another_layout(self):
        mapper = self.mapper(keeper=True)
        watch = Watch(self, mapper, '--json')
        before = watch.event('watching')['pid']
        self.register(mapper, b'hare', port=4711)
        watch.event('registered', name='hare')
        done = epmdctl(mapper, 'upgrade', EPMD_NEXT_LAYOUT)
        self.assertEqual(done.returncode, 0, done)
        seen = [json.loads(watch.next_line()) for _ in range(3)]
        while not (any(event['event'] == 'mapper_started' for event in seen) and
                   any(event['event'] == 'upgrade' and event['outcome'] == 'succeeded' for event in seen) and
                   any(event['event'] == 'reopened' for event in seen)):
            seen.append(json.loads(watch.next_line()))
        started = [event for event in seen if event['event'] == 'mapper_started'][-1]
        self.assertEqual((started['previous_pid'], started['pid']), (before, self.run_json(mapper, 'status')['pid']))
        self.assertFalse([event for event in seen if event['event'] in ('registered', 'left')], seen)
        self.register(mapper, b'fox', port=4712)
        watch.event('registered', name='fox')

    def test_mapper_that_does_not_tell(self):
        """Then it looks by itself, and says so once."""
        mapper = Mapper(before_exec=lambda: seccomp.refuse_calls([UTIMENSAT], errno.EPERM))
        self.addCleanup(mapper.close)
        mapper.start()
        watch = Watch(self, mapper, '--json', interval_s=0.02)
        watch.event('watching')
        for name in (b'hare', b'fox'):
            self.register(mapper, name)
            watch.event('registered', name=name.decode())
        time.sleep(1.5)  # a mapper that has just begun to serve might tell in a second
        code, said = watch.end(signal.SIGTERM)
        self.assertEqual((code, said), (0, b'epmdctl: the mapper does not tell of changes; looks every 20ms instead\n'))

    def test_text(self):
        mapper = self.mapper()
        watch = Watch(self, mapper)
        self.assertIn('0 registered', watch.next_line())
        self.register(mapper, b'hare', port=4711)
        self.assertRegex(watch.next_line(), r'^\S+Z registered hare port 4711 creation \d+$')

    def test_nobody_reads(self):
        mapper = self.mapper()
        watch = Watch(self, mapper)
        watch.next_line()
        self.assertEqual(watch.close_output(), 0)

    def test_interval_has_bounds(self):
        mapper = self.mapper()
        for command, wrong in (('watch', '0'), ('watch', '1e9'), ('top', '0.01'), ('top', 'x')):
            self.assertGreater(epmdctl(mapper, command, '--interval', wrong).returncode, 100)


class CommandLineTest(Case):

    def run_alone(self, *args, **changes):
        return subprocess.run([EPMDCTL, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(**changes), timeout=90,
                              check=False)

    def test_word_that_is_no_command_is_named(self):
        for args, told in ((('dance',), 'not expected: dance'), (('status', 'dance'), 'not expected: dance'), ((), 'A command is required')):
            done = self.run_alone(*args)
            self.assertGreater(done.returncode, 100, done)
            self.assertIn(told, done.stderr)

    def test_port_of_the_environment_is_taken_as_epmd_takes_it(self):
        mapper = self.mapper()
        self.register(mapper, b'hare')
        for variable in (f'{mapper.port}', f' {mapper.port}', f'{mapper.port}x', f'+{mapper.port}.5'):
            with self.subTest(variable=variable):
                done = self.run_alone('--registry', mapper.registry, '--json', 'names', harness.HOST, ERL_EPMD_PORT=variable)
                self.assertEqual(done.returncode, 0, done)
                self.assertIn('hare', done.stdout)
                self.assertEqual('ERL_EPMD_PORT' in done.stderr, variable != f'{mapper.port}')
        for variable in ('x', '-1', '70000'):
            self.assertGreater(self.run_alone('status', ERL_EPMD_PORT=variable).returncode, 100, variable)


class Terminal:
    """A program on a pseudo terminal, as its session leader."""

    def __init__(self, case, command, columns=100, lines=30, **changes):
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.output = b''

        def lead():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        env=environment(**changes), preexec_fn=lead)
        case.addCleanup(self.close)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns, lines):
        """The kernel tells the foreground process of it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.output += os.read(self.master, 1 << 16)
            except OSError:
                break
        return self.output

    def wait_for(self, text):
        harness.wait_until(lambda: text in self.read(), lambda: f'{text!r} in {self.output!r}')

    def screens(self):
        """Each screenful that was drawn as a whole."""
        return self.read().split(b'\x1b[H')[1:-1]

    def wait_end(self):
        def ended():
            self.read()  # so that it is never kept from writing
            return self.process.poll() is not None
        harness.wait_until(ended, 'its end')
        self.read()
        return self.process.returncode


def visible(screen):
    """Lines of a screenful without escape sequences."""
    return [line.rstrip('\r') for line in re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', screen.decode()).split('\n')]


class TopTest(Case):

    def loaded(self):
        mapper = self.mapper()
        for number in range(40):
            self.register(mapper, b'node%d' % number, port=10000 + number)
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                mapper.lookup(b'node1')
                mapper.lookup(b'nobody')
        thread = threading.Thread(target=ask)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        return mapper

    def test_once(self):
        mapper = self.loaded()
        done = epmdctl(mapper, 'top', '--once', '--interval', '0.3')
        self.assertEqual((done.returncode, done.stderr), (0, ''), done)
        for text in (f'pid {mapper.pid} ', 'nodes 40 registered, 0 orphaned', 'port2 found', 'port2 unknown', 'p99.9', 'NEWEST',
                     'node39'):
            self.assertIn(text, done.stdout)
        self.assertNotIn('\x1b', done.stdout)
        # Without a terminal it is the same.
        self.assertEqual(epmdctl(mapper, 'top', '--interval', '0.1').returncode, 0)

    def test_json(self):
        mapper = self.loaded()
        def busy():
            taken = self.run_json(mapper, 'top', '--once', '--interval', '0.5')
            return taken if taken['per_second']['port2_found'] and taken['latency']['count'] else None
        sample = harness.wait_until(busy, 'a sample with requests')
        self.assertEqual((sample['running'], sample['pid'], sample['registered'], sample['orphaned']),
                         (True, mapper.pid, 40, 0))
        self.assertGreaterEqual(sample['seconds'], 0.5)
        self.assertLessEqual(sample['latency']['p50_us'], sample['latency']['max_us'])
        self.assertEqual(sample['newest'][0]['name'], 'node39')
        with subprocess.Popen(arguments(mapper, '--json', 'top', '--interval', '0.1'), stdout=subprocess.PIPE,
                              env=environment()) as process:
            times = [json.loads(process.stdout.readline())['time'] for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            self.assertEqual(process.wait(harness.PATIENCE_S), 0)
        self.assertEqual(len(set(times)), 3)

    def test_no_registry(self):
        with absent_mapper() as mapper:
            self.assertEqual(epmdctl(mapper, 'top', '--once').returncode, NO_REGISTRY)

    def check_terminal(self, end, **changes):
        mapper = self.loaded()
        terminal = Terminal(self, arguments(mapper, 'top', '--interval', '0.1'), **changes)
        harness.wait_until(lambda: len(terminal.screens()) >= 3, 'three screens')
        self.assertFalse(termios.tcgetattr(terminal.slave)[3] & (termios.ICANON | termios.ECHO))
        end(terminal)
        self.assertEqual(terminal.wait_end(), 0)
        output = terminal.read()
        self.assertTrue(output.startswith(ENTER_ALTERNATE), output[:100])
        self.assertTrue(output.endswith(LEAVE_ALTERNATE), output[-100:])
        self.assertEqual(output.count(ENTER_ALTERNATE), 1)
        for hidden, shown in ((b'\x1b[?25l', b'\x1b[?25h'), (b'\x1b[?7l', b'\x1b[?7h')):
            self.assertGreater(output.rfind(shown), output.rfind(hidden))
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)
        return terminal

    def test_ends_at_q(self):
        terminal = self.check_terminal(lambda terminal: os.write(terminal.master, b'q'))
        lines = visible(terminal.screens()[-1])
        self.assertLessEqual(len(lines), 30)
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertTrue(any('node39' in line for line in lines), lines)

    def test_ends_at_interrupt(self):
        self.check_terminal(lambda terminal: os.write(terminal.master, b'\x03'))

    def test_ends_at_terminate(self):
        self.check_terminal(lambda terminal: terminal.process.send_signal(signal.SIGTERM))

    def test_no_color(self):
        terminal = self.check_terminal(lambda terminal: os.write(terminal.master, b'q'), NO_COLOR='1')
        self.assertNotRegex(terminal.read(), rb'\x1b\[[0-9;]*m')

    def test_window_changes_its_size(self):
        mapper = self.loaded()
        terminal = Terminal(self, arguments(mapper, 'top', '--interval', '3600'))
        terminal.wait_for(b'node39')
        for columns, lines in ((60, 12), (132, 43), (20, 1)):
            drawn = terminal.read().count(b'\x1b[H')
            terminal.resize(columns, lines)
            # A screenful ends with what clears the rest.
            harness.wait_until(lambda d=drawn: terminal.read().count(b'\x1b[H') > d and terminal.output.endswith(b'\x1b[J'),
                               'it is drawn anew')
            last = terminal.read().rsplit(b'\x1b[H', 1)[-1]
            self.assertLessEqual(len(visible(last)), lines)
            self.assertLessEqual(max(map(len, visible(last))), columns)
        os.write(terminal.master, b'q')
        self.assertEqual(terminal.wait_end(), 0)

    def test_suspended(self):
        mapper = self.loaded()
        # Its parent is a shell with job control: an orphaned process group is not stopped.
        terminal = Terminal(self, ['bash', '--norc', '--noprofile', '-i'], PS1='ready> ')
        terminal.wait_for(b'ready> ')
        os.write(terminal.master, ' '.join(arguments(mapper, 'top', '--interval', '0.1')).encode() + b'\n')
        terminal.wait_for(b'NEWEST')
        os.write(terminal.master, b'\x1a')
        terminal.wait_for(b'Stopped')
        self.assertGreater(terminal.output.rfind(LEAVE_ALTERNATE), terminal.output.rfind(ENTER_ALTERNATE))
        os.write(terminal.master, b'fg\n')
        harness.wait_until(lambda: terminal.read().count(ENTER_ALTERNATE) == 2, 'it goes on')
        os.write(terminal.master, b'q')
        harness.wait_until(lambda: terminal.read().count(LEAVE_ALTERNATE) == 2, 'its end')
        os.write(terminal.master, b'exit\n')
        terminal.wait_end()

    def test_waits_for_a_registry(self):
        mapper = self.mapper(start=False)
        terminal = Terminal(self, arguments(mapper, 'top', '--interval', '0.1'))
        terminal.wait_for(b'waiting for a registry')
        mapper.start()
        terminal.wait_for(b'mapper runs')


class FakeNode(threading.Thread):
    """Something on a node's port that takes one message after the other and answers as told."""

    def __init__(self, case, answer, address=harness.HOST):
        super().__init__()
        self.listening, self.port = case.listener(address)
        self.greetings = []
        self._answer = answer
        self.start()
        case.addCleanup(self.end)

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                with connection:
                    connection.settimeout(harness.PATIENCE_S)
                    size = struct.unpack('>H', harness.receive_exactly(connection, 2))[0]
                    self.greetings.append(harness.receive_exactly(connection, size))
                    connection.sendall(self._answer)
                    harness.receive_all(connection)

    def end(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.join()


def checks(report):
    return {check['check']: check for check in report['checks']}


class DoctorTest(Case):

    def doctor(self, mapper, *args, code=0):
        report = self.run_json(mapper, 'doctor', *args, code=code)
        self.assertEqual(report['failed'], code != 0)
        for check in report['checks']:
            self.assertIn(check['result'], ('ok', 'warning', 'failed'))
            if check['result'] != 'ok':
                self.assertTrue(check['advice'], check)
        return checks(report)

    def result(self, found, check):
        return found[check]['result']

    @harness.have_erlang
    def test_real_node(self):
        mapper = self.mapper(address=None)
        with harness.ErlangNode('hare', mapper.port, mapper.directory) as node:
            mapper.wait_registered(b'hare')
            found = self.doctor(mapper, 'hare')
            for check in ('registry', 'mapper process', 'mapper over TCP', "mapper's address", 'one mapper', 'name',
                          "node's port", "node's address", 'handshake'):
                self.assertEqual(self.result(found, check), 'ok', found)
            self.assertIn(f'ok, and is called hare@{HOSTNAME}', found['handshake']['text'])
            self.assertIn(str(mapper.pid), found['mapper process']['text'])
            # By another name of the host.
            found = self.doctor(mapper, 'hare@127.0.0.1')
            self.assertEqual((self.result(found, 'host'), self.result(found, 'handshake')), ('ok', 'warning'))
            # Names are told apart by case.
            self.assertIn('called hare', self.doctor(mapper, 'Hare', code=FAILED)['name']['advice'])
            # Whom it does not let in it tells.
            node.evaluate("net_kernel:allow(['fox@nowhere'])")
            found = self.doctor(mapper, 'hare')
            self.assertEqual(self.result(found, 'handshake'), 'warning')
            self.assertIn('not_allowed', found['handshake']['text'])
            # The attempts left nothing but one name.
            self.assertEqual(node.evaluate('[N || N <- nodes(known), N =/= node(), N =/= nonode@nohost]'),
                             f'[epmdctl_doctor@{HOSTNAME}]')
        mapper.wait_gone(b'hare')
        found = self.doctor(mapper, 'hare', code=FAILED)
        self.assertIn('left at', found['name']['text'])

    @harness.have_erlang
    @unittest.skipUnless(harness.STOCK_EPMD, 'no stock epmd here')
    def test_stock_mapper(self):
        mapper = self.mapper(stock=True)
        with harness.ErlangNode('hare', mapper.port, mapper.directory):
            mapper.wait_registered(b'hare')
            found = self.doctor(mapper, 'hare')
            self.assertEqual((self.result(found, 'registry'), self.result(found, 'name'), self.result(found, 'handshake')),
                             ('warning', 'ok', 'ok'))

    def test_nobody(self):
        with absent_mapper() as mapper:
            found = self.doctor(mapper, 'hare', code=FAILED)
            self.assertEqual(self.result(found, 'mapper over TCP'), 'failed')
            self.assertIn('refuses', found['mapper over TCP']['text'])
        mapper = self.mapper()
        mapper.stop()
        found = self.doctor(mapper, code=FAILED)
        self.assertIn('does not run', found['mapper process']['text'])
        self.assertIn('start', found['mapper process']['advice'])

    def test_no_such_host(self):
        found = self.doctor(self.mapper(), 'hare@no-such-host.invalid', code=FAILED)
        self.assertEqual(self.result(found, 'host'), 'failed')

    def test_another_program_has_the_port(self):
        with absent_mapper() as mapper:
            with socket.create_server((harness.HOST, mapper.port)) as listening:
                def serve():
                    with contextlib.suppress(OSError):
                        while True:
                            listening.accept()[0].close()
                thread = threading.Thread(target=serve)
                thread.start()
                try:
                    found = self.doctor(mapper, code=FAILED)
                finally:
                    listening.shutdown(socket.SHUT_RDWR)
                    thread.join()
            self.assertIn('no mapper', found['mapper over TCP']['text'])
            self.assertIn(str(os.getpid()), found['holder of the port']['text'])

    def test_node_is_gone_or_silent(self):
        mapper = self.mapper()
        with socket.create_server((harness.HOST, 0)) as listening:
            port = listening.getsockname()[1]
        self.register(mapper, b'gone', port=port)
        found = self.doctor(mapper, 'gone', code=FAILED)
        self.assertEqual((self.result(found, 'name'), self.result(found, "node's port")), ('ok', 'failed'))
        self.assertIn('refuses', found["node's port"]['text'])
        # One that accepts and says nothing: it is stopped, or no node.
        _, port = self.listener()
        self.register(mapper, b'silent', port=port)
        found = self.doctor(mapper, 'silent', code=FAILED)
        self.assertEqual((self.result(found, "node's port"), self.result(found, 'handshake')), ('ok', 'failed'))
        self.assertEqual(self.result(found, "node's address"), 'warning')
        self.assertIn('other hosts', found["node's address"]['text'])

    def test_packets_are_dropped(self):
        """A full queue of connections drops the first packet, as a firewall does."""
        mapper = self.mapper()
        with socket.socket() as listening:
            listening.bind((harness.HOST, 0))
            listening.listen(0)
            port = listening.getsockname()[1]
            waiting = []
            try:
                for _ in range(3):
                    waiting.append(socket.socket())
                    waiting[-1].setblocking(False)
                    waiting[-1].connect_ex((harness.HOST, port))
                self.register(mapper, b'hare', port=port)
                found = self.doctor(mapper, 'hare', code=FAILED)
                self.assertIn('does not answer', found["node's port"]['text'])
                self.assertIn('firewall', found["node's port"]['advice'])
            finally:
                for connection in waiting:
                    connection.close()

    def test_answers_of_all_kinds(self):
        mapper = self.mapper()
        framed = harness.frame
        challenge = b'N' + bytes(8) + bytes(4) + bytes(4)
        old_challenge = b'n' + struct.pack('>H', 5) + bytes(8)

        def ask(name, answer, highest=6, code=0):
            fake = FakeNode(self, answer)
            self.register(mapper, name, port=fake.port, highest=highest)
            return self.doctor(mapper, name.decode(), code=code)['handshake'], fake.greetings[0]

        own = f'epmdctl_doctor@{socket.gethostname()}'.encode()
        check, greeting = ask(b'new', framed(b'sok') + framed(challenge + struct.pack('>H', 8) + b'new@host'))
        self.assertEqual(check['result'], 'ok')
        self.assertIn('called new@host', check['text'])
        self.assertEqual((greeting[:1], greeting[13:]), (b'N', struct.pack('>H', len(own)) + own))
        check, greeting = ask(b'old', framed(b'sok') + framed(old_challenge + b'old@host'), highest=5)
        self.assertEqual(check['result'], 'ok')
        self.assertEqual((greeting[:3], greeting[7:]), (b'n\x00\x05', own))
        check, _ = ask(b'other', framed(b'sok') + framed(challenge + struct.pack('>H', 8) + b'fox@host'), code=FAILED)
        self.assertIn('another node', check['advice'])
        for status in (b'nok', b'alive', b'not_allowed', b'\x1b[31mred'):
            check, _ = ask(b'status-' + re.sub(rb'\W', b'', status), framed(b's' + status))
            self.assertEqual(check['result'], 'warning')
            self.assertIn(status.decode().replace('\x1b', '?'), check['text'])
        check, _ = ask(b'tls', b'\x15\x03\x03\x00\x02\x02\x0a')
        self.assertIn('TLS', check['text'])
        for number, garbage in enumerate((b'HTTP/1.1 400 Bad Request\r\n', b'\x00\x00', framed(b'x'), framed(b'sok')[:3])):
            # The last two are no complete messages of the handshake; a closed connection follows none of them.
            if number == 3:
                continue
            self.assertEqual(ask(b'garbage%d' % number, garbage, code=FAILED)[0]['result'], 'failed')

    def test_two_mappers(self):
        """One registry, another mapper on its port; and a second one on another port."""
        first = self.mapper()
        self.register(first, b'hare', port=4711)
        second = self.mapper()
        self.register(second, b'fox', port=4712)
        found = self.doctor(first)
        self.assertEqual(self.result(found, 'one mapper'), 'ok')
        self.assertEqual(self.result(found, 'holder of the port'), 'ok')
        self.assertEqual(self.result(found, 'other mappers'), 'warning')
        # The first one's registry with the second one's port.
        mixed = Mapper(port=second.port, registry=first.registry)
        self.addCleanup(mixed.close)
        found = self.doctor(mixed, code=FAILED)
        self.assertEqual(self.result(found, 'one mapper'), 'failed')
        for text in ('only in the registry: hare', 'only over TCP: fox'):
            self.assertIn(text, found['one mapper']['text'])
        self.assertIn(str(second.pid), found['holder of the port']['text'])

    def test_with_a_keeper(self):
        mapper = self.mapper(keeper=True)
        for _ in range(2):
            found = self.doctor(mapper)
            self.assertEqual(self.result(found, 'holder of the port'), 'ok', found)
            # And after an upgrade.
            self.assertEqual(epmdctl(mapper, 'upgrade').returncode, 0)
            harness.wait_until(lambda: self.run_json(mapper, 'status')['running'], 'the new one')

    @harness.as_root_only
    def test_node_of_another_host(self):
        with harness.TwoHosts() as hosts:
            mapper = self.mapper(start=False, address=None, host=hosts.server_address, prefix=hosts.server_prefix)
            with hosts.on_client():
                mapper.start()
            with hosts.on_server():
                fake = FakeNode(self, harness.frame(b'snot_allowed'), address=hosts.server_address)
                self.addCleanup(mapper.register(b'hare', port=fake.port)[0].close)
                # One that only its own host can reach.
                _, hidden = self.listener()
                self.addCleanup(mapper.register(b'fox', port=hidden)[0].close)
            with hosts.on_client():
                found = self.doctor(mapper, 'hare@' + hosts.server_address)
                self.assertEqual({name: check['result'] for name, check in found.items()},
                                 {'host': 'ok', 'mapper on the host': 'ok', 'name': 'ok', "node's port": 'ok',
                                  'handshake': 'warning'})
                found = self.doctor(mapper, 'fox@' + hosts.server_address, code=FAILED)
                self.assertIn('refuses', found["node's port"]['text'])
                found = self.doctor(mapper, 'hare@10.231.77.99', code=FAILED)
                self.assertEqual(self.result(found, 'mapper on the host'), 'failed')

    def test_text(self):
        mapper = self.mapper()
        done = epmdctl(mapper, 'doctor', 'hare')
        self.assertEqual(done.returncode, FAILED)
        self.assertRegex(done.stdout, r'(?m)^ok       registry ')
        self.assertRegex(done.stdout, r'(?m)^failed   name +no node hare .*\n +-> ')
        self.assertNotIn('\x1b', done.stdout)
        terminal = Terminal(self, arguments(mapper, 'doctor', 'hare'), columns=70)
        self.assertEqual(terminal.wait_end(), FAILED)
        self.assertIn(b'\x1b[32mok', terminal.output)
        self.assertLessEqual(max(map(len, visible(terminal.output))), 70 + len(mapper.registry))


class LatencyTest(Case):

    def test_every_request_is_counted_once(self):
        mapper = self.mapper()
        # The one by which it was seen to serve is counted a moment after its reply.
        before = harness.wait_until(lambda: self.run_json(mapper, 'status')['latency']['count'], 'the first request in the histogram')
        for _ in range(20):
            mapper.lookup(b'nobody')
        mapper.names()
        self.register(mapper, b'hare')
        mapper.request(b'?')  # not understood: not counted
        begin = time.monotonic()
        latency = harness.wait_until(
            lambda: (lambda l: l if l['count'] >= before + 22 else None)(self.run_json(mapper, 'status')['latency']),
            '22 requests in the histogram')
        self.assertLess(time.monotonic() - begin, harness.PATIENCE_S)
        self.assertEqual(latency['count'], before + 22)
        self.assertEqual(sum(bucket['count'] for bucket in latency['buckets']), latency['count'])


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as empty:
        os.environ['HOME'] = empty
        unittest.main()
