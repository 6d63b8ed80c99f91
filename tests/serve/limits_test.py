"""Garbage, silence, floods and limits: nobody else notices, and what was registered stays."""

import collections
import contextlib
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import unittest

import harness
from harness import Kept, Mapper, alive2_body, faults, frame
from harness.seccomp import refuse_netlink

SEED = int(os.environ.get('SEED', '20240229'))
IDLE_CONNECTIONS = int(os.environ.get('IDLE', '900' if harness.TESTING_STOCK else '10000'))
RESIDENT_GROWTH_KIB_MAX = 16 * 1024
RESIDENT_KIB_MAX = 256 * 1024


class Bystanders:
    """Nodes that are registered, and somebody who registers, looks up and leaves all the while.

    with Bystanders(mapper): ... nuisance ...           # fails at its end if anything went wrong for them
    """

    def __init__(self, mapper, nodes=20, source=None):
        self.mapper = mapper
        self.client = harness.Client(mapper.port, mapper.host, source)
        self.nodes = [self.client.register(b'bystander%d' % number, port=100 + number)[0] for number in range(nodes)]
        self.rounds = 0
        self.failures = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def _live(self):
        try:
            while not self._end.is_set():
                for number in range(len(self.nodes)):
                    found = self.client.lookup(b'bystander%d' % number)
                    if found is None or found.port != 100 + number:
                        self.failures.append((self.rounds, number, found))
                connection, _ = self.client.register(b'passer-by', port=self.rounds % 65536)
                if self.client.lookup(b'passer-by') is None:
                    self.failures.append((self.rounds, 'passer-by'))
                connection.close()
                self.client.wait_gone(b'passer-by')
                if len(self.client.names()) < len(self.nodes):
                    self.failures.append((self.rounds, self.client.names()))
                self.rounds += 1
                if len(self.failures) > 10:
                    return
        except BaseException as error:
            self.failures.append((self.rounds, repr(error)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        rounds = self.rounds
        if kind is None and not self.failures:
            with contextlib.suppress(AssertionError):
                harness.wait_until(lambda: self.rounds > rounds or self.failures, 'one more round')
        self._end.set()
        self._thread.join()
        for node in self.nodes:
            node.close()
        if kind is None and (self.failures or self.rounds == 0):
            raise AssertionError(f'bystanders noticed (round {self.rounds}): {self.failures}; the mapper said '
                                 f'{self.mapper.log()[-2000:]!r}')


class NuisanceTest(unittest.TestCase):

    def mapper(self, *args, **options):
        mapper = Mapper(args=args, **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def test_garbage(self):
        rng = random.Random(SEED)
        mapper = self.mapper()
        with Bystanders(mapper):
            for _ in range(3000):
                data = bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 3, 5, 20, 200])))
                if data[2:3] == b'k':
                    continue
                with mapper.connect() as connection, contextlib.suppress(OSError):
                    connection.sendall(data * rng.choice([1, 1, 1, 100]))
        self.assertTrue(mapper.alive())

    def test_half_requests(self):
        rng = random.Random(SEED)
        mapper = self.mapper()
        whole = [frame(alive2_body(b'half', extra=b'e' * 100)), frame(b'zbystander1'), frame(b'n'), frame(b'z' + b'a' * 3000)]
        kept = []
        with Bystanders(mapper):
            for _ in range(2000):
                data = rng.choice(whole)
                connection = mapper.connect()
                connection.sendall(data[:rng.randrange(len(data))])
                how = rng.randrange(4)
                if how == 0:
                    harness.reset(connection)
                elif how == 1:
                    kept.append(connection)
                elif how == 2:
                    connection.shutdown(socket.SHUT_WR)
                    self.assertEqual(harness.receive_all(connection), b'')
                    connection.close()
                else:
                    connection.close()
        for connection in kept:
            connection.close()

    def test_one_byte_at_a_time(self):
        mapper = self.mapper()
        with Bystanders(mapper):
            connection = mapper.connect()
            for byte in frame(alive2_body(b'slow', port=4711, extra=b'extra')):
                connection.sendall(bytes([byte]))
                time.sleep(0.005)
            self.assertEqual(harness.alive2_result(harness.receive_alive2_reply(connection))[0], 0)
            reader = mapper.connect()
            for byte in frame(b'zslow'):
                reader.sendall(bytes([byte]))
                time.sleep(0.005)
            self.assertEqual(harness.receive_all(reader)[:4], b'w\x00\x12\x67')
            reader.close()
            connection.close()

    @harness.ours_only
    def test_lists_and_others_at_once(self):
        """Lists are answered after the rest, and all of them whole, with all who were there when they were asked for."""
        nodes = 300
        mapper = self.mapper('-workers', '1')
        connections = [mapper.register(b'listed%d' % number, port=number + 1)[0] for number in range(nodes)]
        asked = []
        os.kill(mapper.pid, signal.SIGSTOP)
        try:
            for number in range(60):
                asker = mapper.connect()
                asker.sendall(frame([b'n', b'd', b'zlisted%d' % number][number % 3]))
                asked.append(asker)
        finally:
            os.kill(mapper.pid, signal.SIGCONT)
        for number, asker in enumerate(asked):
            reply = harness.receive_all(asker)
            if number % 3 == 2:
                self.assertEqual(reply[:4], struct.pack('>BBH', ord('w'), 0, number + 1))
            else:
                self.assertEqual(reply.count(b'at port '), nodes)
                self.assertTrue(reply.endswith(b'\n' if number % 3 == 0 else b'\n\0'))
            asker.close()
        for connection in connections:
            connection.close()

    @harness.ours_only
    def test_request_that_takes_too_long(self):
        """Somebody who sends a byte now and then does not keep a connection beyond -packet_timeout."""
        mapper = self.mapper('-packet_timeout', '2')
        data = frame(b'z' + b'a' * 250)
        with Bystanders(mapper), mapper.connect() as connection:
            connection.settimeout(0.1)
            for byte in data:
                try:
                    connection.sendall(bytes([byte]))
                    if connection.recv(100) == b'':
                        break
                    self.fail('a reply to an incomplete request')
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                self.fail(f'a request that took {len(data) * 0.1} s was let through')

    @harness.ours_only
    def test_request_that_came_while_the_mapper_stood_still(self):
        """Its time is over when the mapper looks at it, but it came before."""
        mapper = self.mapper('-packet_timeout', '3', '-delay_accept', '4', '-workers', '1')
        node = mapper.connect()
        other = mapper.connect()
        request = frame(b'znobody')
        node.sendall(request[:-1])
        # From 4 s on the request has its three seconds, and until 8 s the worker stands still with the other connection.
        time.sleep(5)
        node.sendall(request[-1:])
        self.assertEqual(harness.receive_all(node), b'w\1')
        node.close()
        other.close()

    def test_silent_connections_are_closed_and_nodes_are_not(self):
        mapper = self.mapper('-packet_timeout', '2')
        node, _ = mapper.register(b'quiet')
        with Bystanders(mapper):
            silent = [mapper.connect() for _ in range(100)]
            half = [mapper.connect() for _ in range(100)]
            for connection in half:
                connection.sendall(frame(b'zquiet')[:-1])
            for connection in silent + half:
                self.assertTrue(harness.sees_close(connection))
                connection.close()
            # The node has now been silent for longer than anybody else.
            self.assertIsNotNone(mapper.lookup(b'quiet'))
        node.settimeout(3)
        with self.assertRaises(TimeoutError):
            node.recv(1)
        self.assertIsNotNone(mapper.lookup(b'quiet'))
        node.close()
        mapper.wait_gone(b'quiet')

    def test_resets(self):
        """RST at all moments: after connecting, in the middle of a request, of a reply, and from a node."""
        mapper = self.mapper()
        nodes = [mapper.register(b'%d' % number + b'n' * 240)[0] for number in range(500)]
        with Bystanders(mapper):
            for number in range(1000):
                connection = mapper.connect()
                moment = number % 5
                if moment == 1:
                    connection.sendall(frame(b'n')[:2])
                elif moment == 2:
                    connection.sendall(frame(b'n'))
                elif moment == 3:
                    connection.sendall(frame(b'd'))
                    connection.recv(1000)
                elif moment == 4:
                    connection.sendall(frame(alive2_body(b'reset%d' % number)))
                harness.reset(connection)
            harness.wait_until(lambda: not [name for name, _ in mapper.names() if name.startswith(b'reset')],
                               'nodes whose connection was reset are gone')
        self.assertEqual(len([name for name, _ in mapper.names() if name.endswith(b'n' * 240)]), 500)
        for node in nodes:
            node.close()

    @harness.ours_only
    def idle_connections(self, idle_source, bystander_source):
        if harness.raise_descriptor_limit() < IDLE_CONNECTIONS + 200:
            self.skipTest('too few file descriptors allowed here (ulimit -Hn)')
        mapper = self.mapper('-packet_timeout', '2')
        idler = harness.Client(mapper.port, mapper.host, idle_source)
        resident = []
        with Bystanders(mapper, source=bystander_source):
            for _ in range(2):
                idle = []
                try:
                    while len(idle) < IDLE_CONNECTIONS:
                        try:
                            idle.append(idler.connect())
                        except ConnectionResetError:
                            pass
                    for connection in idle:
                        self.assertTrue(harness.sees_close(connection))
                finally:
                    for connection in idle:
                        connection.close()
                resident.append(harness.resident_kib(mapper.pid))
        if not harness.INSTRUMENTED:
            self.assertLess(resident[0], RESIDENT_KIB_MAX)
            self.assertLess(resident[1] - resident[0], RESIDENT_GROWTH_KIB_MAX)
        # All descriptors have been given back.
        harness.wait_until(lambda: len(os.listdir(f'/proc/{mapper.pid}/fd')) < 200, 'the descriptors are given back')

    def test_idle_connections(self):
        self.idle_connections(None, None)

    def test_idle_connections_from_elsewhere(self):
        self.idle_connections('127.0.0.9', '127.0.0.1')

    def test_memory_does_not_grow(self):
        mapper = self.mapper()
        rounds = 3000

        def go(first):
            for number in range(first, first + rounds):
                connection, _ = mapper.register(b'come-and-go%d' % (number % 500), extra=b'e' * (number % 900))
                mapper.lookup(b'come-and-go%d' % (number % 500))
                if number % 50 == 0:
                    mapper.names()
                    mapper.dump()
                connection.close()
                mapper.wait_gone(b'come-and-go%d' % (number % 500))

        go(0)
        before = harness.resident_kib(mapper.pid)
        go(rounds)
        after = harness.resident_kib(mapper.pid)
        if not harness.INSTRUMENTED:
            self.assertLess(after - before, 2048)


@harness.ours_only
class SlowReaderTest(unittest.TestCase):
    """Somebody who asks for much and does not read it: several megabytes, more than the kernel buffers."""

    NODES = 5000
    NAME_TAIL = '😀'.encode() * 245

    def setUp(self):
        if harness.raise_descriptor_limit() < self.NODES + 200:
            self.skipTest('too few file descriptors allowed here (ulimit -Hn)')

    @contextlib.contextmanager
    def mapper_with_nodes(self, *args, mapper_type=Mapper, **options):
        with mapper_type(args=['-workers', '1', *args], **options) as mapper:
            nodes = []
            try:
                for number in range(self.NODES):
                    nodes.append(mapper.register(b'%d-' % number + self.NAME_TAIL)[0])
                yield mapper
            finally:
                for node in nodes:
                    node.close()

    def ask(self, mapper, request=b'n'):
        asker = socket.socket()
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        asker.settimeout(harness.PATIENCE_S)
        asker.connect((mapper.host, mapper.port))
        asker.sendall(frame(request))
        return asker

    def ask_without_reading(self, mapper, request=b'n'):
        asker = self.ask(mapper, request)
        self.assertEqual(len(harness.receive_exactly(asker, 4)), 4)
        return asker

    def lines(self, asker):
        """Of the list that it gets; None when that is cut short by a reset, for an end would make half a list a whole one."""
        received = bytearray()
        with asker, contextlib.suppress(ConnectionResetError):
            while chunk := asker.recv(1 << 16):
                received += chunk
            return received.count(b' at port 1234\n')
        return None

    def stands_still(self, mapper):
        states = set()
        for task in os.listdir(f'/proc/{mapper.pid}/task'):
            with open(f'/proc/{mapper.pid}/task/{task}/stat') as stat:
                states.add(stat.read().rsplit(')', 1)[1].split()[0])
        return states == {'T'}

    def cpu_ticks(self, mapper):
        with open(f'/proc/{mapper.pid}/stat') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def test_partial_writes_are_not_spun_on(self):
        with self.mapper_with_nodes() as mapper:
            askers = [self.ask_without_reading(mapper) for _ in range(4)]
            self.assertEqual(mapper.lookup(b'7-' + self.NAME_TAIL).port, 1234)
            before = self.cpu_ticks(mapper)
            time.sleep(2)  # in which there is nothing to do; a worker that spins takes both seconds
            self.assertLess(self.cpu_ticks(mapper) - before, os.sysconf('SC_CLK_TCK'))
            for asker in askers:
                self.assertEqual(harness.receive_all(asker).count(b' at port 1234\n'), self.NODES)
                asker.close()

    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers keep freed memory')
    def test_texts_of_slow_readers_are_bounded(self):
        """Each reader has another text, as names come meanwhile: those who wait longest are ended (kSlowTextsSizeMax)."""
        bound_kib = 64 << 10
        asked = 80
        with self.mapper_with_nodes() as mapper:
            text_kib = len(harness.receive_all(self.ask_without_reading(mapper))) >> 10
            self.assertGreater(asked * text_kib, 5 * bound_kib)
            for request in (b'n', b'd'):
                with self.subTest(request=request):
                    before = harness.resident_kib(mapper.pid)
                    askers = []
                    for number in range(asked):
                        mapper.register(b'meanwhile%d' % number)[0].close()
                        askers.append(self.ask_without_reading(mapper, request))
                    # The texts, those that are being made, and the gaps that are left between them.
                    self.assertLess(harness.resident_kib(mapper.pid) - before, 3 * bound_kib)
                    for asker in askers:
                        asker.close()

    def test_reader_that_takes_too_long_is_closed(self):
        with self.mapper_with_nodes('-packet_timeout', '2') as mapper:
            descriptors = len(os.listdir(f'/proc/{mapper.pid}/fd'))
            askers = [self.ask_without_reading(mapper) for _ in range(20)]
            harness.wait_until(lambda: len(os.listdir(f'/proc/{mapper.pid}/fd')) <= descriptors, 'the askers are closed')
            self.assertEqual(mapper.lookup(b'7-' + self.NAME_TAIL).port, 1234)
            self.assertEqual([self.lines(asker) for asker in askers], [None] * 20)

    def test_lists_that_are_kept_for_readers_are_bounded(self):
        """Each waits for a list of its own, of more than 4 MiB: the first are ended, the last get theirs."""
        with self.mapper_with_nodes() as mapper:
            askers = []
            others = []
            for number in range(20):
                askers.append(self.ask_without_reading(mapper))
                others.append(mapper.register(b'other%d' % number)[0])
            counts = [self.lines(asker) for asker in askers]
            self.assertIsNone(counts[0])
            for number, count in enumerate(counts):
                self.assertIn(count, (None, self.NODES + number))
            self.assertEqual(counts[-1], self.NODES + 19)
            self.assertIn('readers that do not take their replies', mapper.log())
            self.assertEqual(mapper.lookup(b'7-' + self.NAME_TAIL).port, 1234)
            for other in others:
                other.close()

    def test_reader_whose_mapper_ends(self):
        """It sees that its list is cut short, whatever ends the mapper."""
        ends = {
            'upgrade': lambda mapper, pid: self.assertEqual(mapper.upgraded().returncode, 0, mapper.log()),
            'SIGKILL': lambda mapper, pid: os.kill(pid, signal.SIGKILL),
            'SIGTERM': lambda mapper, pid: os.kill(pid, signal.SIGTERM),
        }
        with self.mapper_with_nodes(mapper_type=Kept) as mapper:
            for what, end in ends.items():
                with self.subTest(what=what):
                    asker = self.ask_without_reading(mapper)
                    pid = mapper.mapper_pid()
                    end(mapper, pid)
                    harness.wait_until(lambda p=pid: not harness.process_exists(p), 'the mapper has ended')
                    self.assertIsNone(self.lines(asker))

    @unittest.skipIf(harness.INSTRUMENTED or faults.INJECT is None, 'nothing can be preloaded')
    def test_reader_whose_mapper_is_killed_as_it_sends(self):
        """Directly after the first or the second part of a list, or the first of the next one."""
        switch = faults.Switch()
        self.addCleanup(switch.close)
        # Without netlink nothing but replies is sent: who owns the nodes is still being asked for when the nodes are there.
        with self.mapper_with_nodes(mapper_type=Kept, env=switch.environment, before_exec=refuse_netlink) as mapper, switch:
            for number in (1, 2):
                with self.subTest(part=number):
                    pid = mapper.mapper_pid()
                    before = switch.injected
                    switch.only('send', faults.KILLED, number)
                    # Or the whole, if that was sent: a reader that is quick enough gets it as one part.
                    while switch.injected == before:
                        self.assertIn(self.lines(self.ask(mapper)), (None, self.NODES))
                    harness.wait_until(lambda p=pid: mapper.mapper_pid() not in (0, p), 'there is another mapper')

    def test_many_ask_for_lists_at_once(self):
        """More than are answered in one turn of a worker, together with lookups."""
        with Mapper(args=['-workers', '1']) as mapper:
            nodes = [mapper.register(b'node%d' % number)[0] for number in range(50)]
            before = {request: mapper.request(request) for request in (b'n', b'd')}
            os.kill(mapper.pid, signal.SIGSTOP)
            harness.wait_until(lambda: self.stands_still(mapper), 'all threads stop')
            asked = [(request, mapper.connect()) for _ in range(100) for request in (b'n', b'd', b'znode7')]
            for request, connection in asked:
                connection.sendall(frame(request))
            os.kill(mapper.pid, signal.SIGCONT)
            # Who asks for a list when a node is registered finds it there, also while others are being answered.
            nodes.append(mapper.register(b'last')[0])
            after = {request: mapper.request(request) for request in (b'n', b'd')}
            self.assertIn(b'name last at', after[b'n'])
            self.assertIn(b'<last> at', after[b'd'])
            for request, connection in asked:
                with connection:
                    reply = harness.receive_all(connection)
                if request in before:
                    self.assertIn(reply, (before[request], after[request]))
                else:
                    self.assertEqual(reply[:2], b'w\0')
            for node in nodes:
                node.close()

    @harness.as_root_only
    def test_reader_elsewhere_for_whom_there_is_no_place(self):
        """Of one source 1,024 may wait. One more is reset in the middle of a list, which would else seem whole, and served at once
        when there is nothing to wait for."""
        with harness.TwoHosts() as hosts, contextlib.ExitStack() as stack:
            mapper = Mapper(args=['-workers', '1'], address=hosts.server_address, host=hosts.server_address,
                            prefix=hosts.server_prefix)
            stack.callback(mapper.close)
            with hosts.on_server():
                mapper.start()
                for number in range(self.NODES):
                    stack.callback(mapper.register(b'%d-' % number + self.NAME_TAIL)[0].close)
            with hosts.on_client():
                waiting = [mapper.connect() for _ in range(1024)]
                for connection in waiting:
                    stack.callback(connection.close)
                    connection.sendall(b'\0')
                with mapper.connect() as one_more:
                    self.assertTrue(harness.sees_close(one_more))
                # What is there when the connection is taken needs no place.
                os.kill(mapper.pid, signal.SIGSTOP)
                harness.wait_until(lambda: self.stands_still(mapper), 'all threads stop')
                lookup = mapper.connect()
                stack.callback(lookup.close)
                lookup.sendall(frame(b'z7-' + self.NAME_TAIL))
                asker = socket.socket()
                stack.callback(asker.close)
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                asker.settimeout(harness.PATIENCE_S)
                asker.connect((mapper.host, mapper.port))
                asker.sendall(frame(b'n'))
                os.kill(mapper.pid, signal.SIGCONT)
                self.assertEqual(harness.receive_all(lookup)[:2], b'w\0')
                with self.assertRaises(ConnectionResetError):
                    while asker.recv(65536):
                        pass
                self.assertIn('raise kRequestsPerSourceMax', mapper.log())


@harness.ours_only
class LimitTest(unittest.TestCase):

    def register_many(self, mapper, count):
        """Returns the connections by name, the refused names; the refused must have seen a close."""
        registered, refused = {}, []
        for number in range(count):
            name = b'limit%d' % number
            connection = mapper.connect()
            try:
                connection.sendall(frame(alive2_body(name, port=number + 1)))
                reply = harness.receive_alive2_reply(connection)
            except (BrokenPipeError, ConnectionResetError):
                reply = b''
            except TimeoutError:
                self.fail(f'{name!r}: no reply and no close; the mapper said {mapper.log()[-2000:]!r}')
            if reply and harness.alive2_result(reply)[0] == 0:
                registered[name] = connection
            else:
                self.assertTrue(harness.sees_close(connection), name)
                connection.close()
                refused.append(name)
        return registered, refused

    def check_served(self, mapper, registered, refused):
        for name, connection in registered.items():
            found = mapper.lookup(name)
            self.assertIsNotNone(found, f'{name!r} was thrown out')
            self.assertEqual(b'limit%d' % (found.port - 1), name)
        for name in refused:
            self.assertIsNone(mapper.lookup(name))
        self.assertEqual({name for name, _ in mapper.names()}, set(registered))
        self.assertEqual(len(mapper.dump()), len(registered))
        for connection in registered.values():
            connection.settimeout(0)
            with self.assertRaises(BlockingIOError):
                connection.recv(1)
            connection.settimeout(harness.PATIENCE_S)

    def lines_about(self, mapper, pattern):
        return [line for line in mapper.log().splitlines() if re.search(pattern, line, re.I)]

    def test_file_descriptors(self):
        # More than the mapper may open, and more than would be left of them for lookups without a reserve.
        start = time.monotonic()
        with Mapper(descriptors=256, args=['-workers', '2']) as mapper:
            registered, refused = self.register_many(mapper, 400)
            self.assertGreater(len(registered), 100)
            self.assertGreaterEqual(len(refused), 400 - 256)
            self.check_served(mapper, registered, refused)

            lines = self.lines_about(mapper, r'of 256 file descriptors')
            self.assertTrue(lines, mapper.log())
            self.assertLessEqual(len(lines), 3 + time.monotonic() - start, 'more than one line a second')
            self.assertRegex(lines[-1], r'LimitNOFILE|RLIMIT_NOFILE|ulimit')

            # Idle connections on top: lookups still go through.
            idle = [mapper.connect() for _ in range(300)]
            self.check_served(mapper, registered, refused)
            for connection in idle:
                connection.close()
            # While the table is full, a client that is slow to speak has to go.
            harness.wait_until(lambda: len(os.listdir(f'/proc/{mapper.pid}/fd')) < 230, 'the idle ones are closed')

            # And there is room again when some leave.
            leaving = list(registered)[:20]
            for name in leaving:
                registered.pop(name).close()
                mapper.wait_gone(name)
            returned, refused_again = self.register_many(mapper, 10)
            self.assertEqual((len(returned), refused_again), (10, []))
            for connection in [*registered.values(), *returned.values()]:
                connection.close()

    def test_more_idle_connections_than_descriptors(self):
        """Newcomers make the oldest idle connections leave; no lookup is thrown out for them."""
        with Mapper(descriptors=256, args=['-workers', '2']) as mapper:
            nodes = [mapper.register(b'limit%d' % number, port=number + 1)[0] for number in range(150)]
            idle = collections.deque(mapper.connect() for _ in range(400))
            for round_number in range(1000):
                for _ in range(3):
                    idle.append(mapper.connect())
                    idle.popleft().close()
                self.assertEqual(mapper.lookup(b'limit%d' % (round_number % 150)).port, round_number % 150 + 1)
            for connection in [*nodes, *idle]:
                connection.close()

    def test_an_evicted_node_is_not_registered(self):
        """Whoever is evicted with an ALIVE2 on its way gets a close, or the whole reply and stays."""
        with Mapper(descriptors=256, args=['-workers', '2']) as mapper:
            for _ in range(20):
                idle = [mapper.connect() for _ in range(200)]
                nodes = {}
                for number in range(100):
                    name = b'evicted%d' % number
                    nodes[name] = mapper.connect()
                    nodes[name].sendall(frame(alive2_body(name)))
                replies = {name: harness.receive_alive2_reply(connection) for name, connection in nodes.items()}
                registered = {name for name, reply in replies.items() if reply[:2] == b'v\x00'}
                self.assertEqual({name for name, _ in mapper.names()}, registered)
                for connection in [*idle, *nodes.values()]:
                    connection.close()
                for name in registered:
                    mapper.wait_gone(name)

    def test_registry_full(self):
        start = time.monotonic()
        with Mapper(args=['-capacity', '64']) as mapper:
            registered, refused = self.register_many(mapper, 100)
            self.assertEqual((len(registered), len(refused)), (64, 36))
            self.check_served(mapper, registered, refused)
            lines = self.lines_about(mapper, r'capacity')
            self.assertTrue(lines, mapper.log())
            self.assertLessEqual(len(lines), 3 + time.monotonic() - start, 'more than one line a second')
            self.assertRegex(lines[-1], r'-capacity')
            self.assertIn('64', lines[-1])

            # A name that left makes room for another one.
            registered.pop(b'limit0').close()
            mapper.wait_gone(b'limit0')
            node, _ = mapper.register(b'newcomer')
            self.assertEqual(mapper.alive2(b'too-many')[1][1:2], b'\x01')
            self.assertEqual(mapper.lookup(b'limit1').port, 2)
            node.close()
            mapper.wait_gone(b'newcomer')
            for connection in registered.values():
                connection.close()

    def test_registry_of_little_room_for_old_names(self):
        """Far more names come and go than the registry can remember."""
        with Mapper(args=['-capacity', '64']) as mapper:
            stay = [mapper.register(b'stay%d' % number, port=number)[0] for number in range(32)]
            for number in range(1000):
                connection, _ = mapper.register(b'pass%d' % number)
                connection.close()
            for number in range(32):
                self.assertEqual(mapper.lookup(b'stay%d' % number).port, number)
            for connection in stay:
                connection.close()


class ShareTest(unittest.TestCase):

    # The offset and size of the counters in the registry, of which connections_accepted is the first: registry/layout.h.
    STATISTICS_OFFSET = 4096
    STATISTICS_SIZE = 1024

    @harness.ours_only
    @unittest.skipIf(harness.LOOP == 'epoll', 'epoll wakes whom it likes')
    def test_workers_take_turns(self):
        with Mapper(args=['-workers', '2'], loop='io_uring') as mapper:
            def accepted():
                mapper.lookup(b'nobody')
                with open(mapper.registry, 'rb') as registry:
                    registry.seek(self.STATISTICS_OFFSET)
                    return [struct.unpack('<Q', registry.read(self.STATISTICS_SIZE)[:8])[0] for _ in range(2)]
            # On a busy machine it may take one of them a while to begin.
            harness.wait_until(lambda: min(accepted()) > 0, 'both workers accept')
            def takes_turns():
                before = accepted()
                for _ in range(640):
                    mapper.lookup(b'nobody')
                return min(after - earlier for after, earlier in zip(accepted(), before)) > 160
            harness.wait_until(takes_turns, 'each has a quarter of them')


class NotLocalTest(unittest.TestCase):
    """Who comes from another host may look up and list, and nothing else."""

    @harness.as_root_only
    def test_requests_from_another_host(self):
        with harness.TwoHosts() as hosts:
            mapper = Mapper(args=['-relaxed_command_check'], address=hosts.server_address, host=hosts.server_address,
                            prefix=hosts.server_prefix)
            try:
                with hosts.on_server():
                    mapper.start()
                    node, _ = mapper.register(b'node', port=4711)  # from the address it connects to: local
                    loopback = harness.Client(mapper.port)
                    other, _ = loopback.register(b'other', port=4712)
                with hosts.on_client():
                    self.assertEqual(mapper.lookup(b'node').port, 4711)
                    self.assertEqual(mapper.names(), [(b'other', 4712), (b'node', 4711)])
                    self.assertIsNone(mapper.lookup(b'nobody'))
                    for body in (b'd', b'k', b'snode', b'snobody', alive2_body(b'foreign'), alive2_body(b'node'),
                                 alive2_body(b'foreign', highest=5), alive2_body(b'\xff')):
                        with self.subTest(body=body):
                            self.assertEqual(mapper.request(body), b'')
                    self.assertEqual(mapper.names(), [(b'other', 4712), (b'node', 4711)])
                with hosts.on_server():
                    self.assertTrue(mapper.alive())
                    self.assertEqual(len(mapper.dump()), 2)
                    self.assertEqual(len(loopback.dump()), 2)
                    self.assertEqual(mapper.stop_node(b'node'), b'STOPPED')
                    self.assertEqual(loopback.stop_node(b'other'), b'STOPPED')
                    self.assertEqual(mapper.kill(), b'OK')
                    self.assertEqual(mapper.wait(), 0)
                node.close()
                other.close()
            finally:
                mapper.close()


if __name__ == '__main__':
    unittest.main()
