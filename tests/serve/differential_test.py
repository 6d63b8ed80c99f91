"""The same requests to the stock epmd and to the mapper under test, side by side; the replies must be the same bytes.

The stock epmd is that of this machine; those of other releases of Erlang/OTP are compared with, too, where there are trees that
have them (tools/project/tree make SUITE run).

A random but reproducible stream (SEED, COUNT in the environment) of requests, valid and broken, goes to both while a pool
of nodes registers and leaves. Compared are all bytes of all replies, including the order of NAMES and DUMP, except:
  - the mapper's own port at the head of NAMES and DUMP (each must say its own);
  - creations: they depend on the time. Ours must add one each time a name comes back;
  - the fd numbers in DUMP;
  - what differs on purpose, which has a test of its own each (class DeliberateDifferenceTest).

What was observed of the stock epmd 13.1 about order and memory:
  - NAMES and the active part of DUMP list the latest registration first.
  - The old/unused part of DUMP lists names in the order in which they left, the earliest first. It repeats the port and
    the fd of the last registration. A name that comes back moves from there to the active part.
  - Nothing is forgotten when a node leaves. When a *new* name registers while more than 1,000 are old (more than 5 with
    -d), the earliest of them is forgotten. Names that come and go one at a time thus leave 1,001 old ones (6 with -d).
  - A registration whose connection got a later byte, or its end, is unregistered; STOP closes the node's connection.
  - ALIVE2 with an empty name is closed without a reply when extra is empty too, and registers the name "" otherwise.
  - Control characters in a name are registered like any others.
  - Bytes after extra, within the frame, are no error.
  - A name of 255 code points can be registered, but PORT2 closes without a reply when asked for it: 254 are its most.
"""

import os
import random
import re
import socket
import struct
import unittest

import harness
from harness import BODY_SIZE_MAX, alive2_body, frame
from harness.environment import other_references

SEED = int(os.environ.get('SEED', '20240229'))
COUNT = harness.scaled('COUNT', 20000)
EPOCH_REQUESTS = 4000  # then a new pair of mappers, so that less than 1,000 names are old at any time
NODES_MAX = 60
PENDING_MAX = 16

# Of which those of each other release get so many.
OTHER_COUNT = COUNT // 5

STOCK_MISSING = harness.STOCK_EPMD is None

BAD_UTF8 = [
    b'\x80', b'\xbf', b'a\x80', b'\xc0\x80', b'\xc1\xbf', b'\xc2', b'\xc2a', b'\xe0\x80\x80', b'\xe0\x9f\xbf', b'\xe2\x82',
    b'\xe2\x82a', b'\xed\xa0\x80', b'\xed\xbf\xbf', b'\xf0\x80\x80\x80', b'\xf0\x8f\xbf\xbf', b'\xf0\x9f\x98', b'\xf4\x90\x80\x80',
    b'\xf5\x80\x80\x80', b'\xf8\x88\x80\x80\x80', b'\xfc\x84\x80\x80\x80\x80', b'\xfe', b'\xff', b'a\xffb', b'\xc3\xa4\xc3',
]
ODD_UTF8 = [b'\xc2\xa0', b'\xdf\xbf', b'\xe0\xa0\x80', b'\xed\x9f\xbf', b'\xee\x80\x80', b'\xef\xbf\xbe',
            b'\xe2\x80\xa7', b'\xe2\x80\xaf', b'\xe2\x81\xa5', b'\xe2\x81\xaa', b'\xef\xbf\xbf', b'\xf0\x90\x80\x80', b'\xf4\x8f\xbf\xbf', b'\xef\xbb\xbfbom', b'a b', b'a@b', b'a%sb', b'<a>']
CONTROL = re.compile('[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]')
CONTROLS = [b'\x01', b'\t', b'a\nb', b'\x1b[2J', b'\x1f', b'a\x7f', b'\xc2\x80', b'a\xc2\x9b', b'\xc2\x9fa', b'\xe2\x80\xa8', b'a\xe2\x80\xaeb',
            b'\xe2\x81\xa6', b'\xe2\x81\xa9', b'b at port 1\nname rabbit at port 4242\nname c']
LONG_NAMES = [
    b'a' * 254, b'b' * 255, b'c' * 256, 'ä'.encode() * 255, 'ä'.encode() * 256, '€'.encode() * 255, '€'.encode() * 256,
    '😀'.encode() * 255, '😀'.encode() * 255 + b'a', '😀'.encode() * 254 + b'ab', b'd' * 1020, b'e' * 1021,
    '😀'.encode() * 256, b'f' * 2000, b'\x80' * 1020, b'\x80' * 1021,
]


def is_whole(data):
    """Whether a mapper has all it needs to answer or close."""
    if len(data) < 2:
        return False
    size, = struct.unpack('>H', data[:2])
    return size == 0 or size > BODY_SIZE_MAX or len(data) >= 2 + size


def name_of_alive2(data):
    size, = struct.unpack('>H', data[11:13])
    return data[13:13 + size]


def has_control(data):
    """Whether `data` is an ALIVE2 whose name has control characters, but is one that the stock epmd may register."""
    if data[2:3] != b'x' or len(data) < 13:
        return False
    try:
        name = name_of_alive2(data).decode()
    except UnicodeDecodeError:
        return False
    return '\0' not in name and CONTROL.search(name) is not None


class Pair:
    """The stock epmd and the mapper under test, in the same state."""

    def __init__(self, test, args=()):
        self.test = test
        self.mappers = (harness.Mapper(stock=getattr(test, 'reference', True), args=args), harness.Mapper(args=args))
        self.nodes = {}     # name -> its two connections
        self.creations = {}  # name -> creation of ours that was given last
        self.requests = 0
        self.context = ''

    def __enter__(self):
        try:
            for mapper in self.mappers:
                mapper.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for connections in self.nodes.values():
            self.close_both(connections)
        for mapper in self.mappers:
            mapper.close()

    def close_both(self, connections):
        for connection in connections:
            connection.close()

    def connect(self):
        first = self.mappers[0].connect()
        try:
            return first, self.mappers[1].connect()
        except BaseException:
            first.close()
            raise

    def comparable(self, index, data, reply):
        kind = data[2:3]
        if kind in (b'n', b'd') and len(reply) >= 4:
            self.test.assertEqual(struct.unpack('>I', reply[:4])[0], self.mappers[index].port, self.context)
            return b'<port>' + re.sub(rb'fd = -?\d+', b'fd = <fd>', reply[4:])
        if kind == b'x' and reply[:2] == b'v\x00' and len(reply) == 6:
            self.test.assertGreaterEqual(struct.unpack('>I', reply[2:])[0], 4, self.context)
            return b'v\x00<creation>'
        if kind == b'x' and reply[:2] == b'y\x00' and len(reply) == 4:
            self.test.assertIn(struct.unpack('>H', reply[2:])[0], (1, 2, 3), self.context)
            return b'y\x00<creation>'
        return reply

    def compare(self, data, replies):
        stock, ours = (self.comparable(index, data, reply) for index, reply in enumerate(replies))
        if stock != ours:
            self.test.fail(f'{self.context}\nrequest {data[:400]!r}{"..." if len(data) > 400 else ""} ({len(data)} bytes)\n'
                           f'stock   {stock[:2000]!r} ({len(stock)} bytes)\nours    {ours[:2000]!r} ({len(ours)} bytes)')

    def exchange(self, data, chunks=None, half_close=False, connections=None):
        """Sends `data` to both, in the given chunks, and compares all that comes back. Returns the stock's reply.

        A node that thereby registers joins self.nodes.
        """
        self.requests += 1
        connections = connections or self.connect()
        half_close = half_close or not is_whole(data)
        alive2 = data[2:3] == b'x' and len(data) >= 3
        replies = []
        try:
            for connection in connections:
                try:
                    for chunk in chunks or [data]:
                        connection.sendall(chunk)
                    if half_close:
                        connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # closed as soon as the length was seen; the reply says all
                replies.append(harness.receive_alive2_reply(connection) if alive2 else harness.receive_all(connection))
        except TimeoutError:
            self.close_both(connections)
            who = 'ours' if replies else 'stock'
            self.test.fail(f'{self.context}\nno reply and no close from {who} to {data[:400]!r} ({len(data)} bytes)')
        self.compare(data, replies)
        if alive2 and replies[0][1:2] == b'\x00':
            name = name_of_alive2(data)
            self._check_creation(name, replies[1])
            self.nodes[name] = connections
            if half_close:
                self.leave(name, lambda connection: None)
        else:
            self.close_both(connections)
        return replies[0]

    def _check_creation(self, name, reply):
        before = self.creations.get(name)
        if reply[:1] == b'y':
            if before is not None:
                self.creations[name] = before + 1
            return
        creation = harness.alive2_result(reply)[1]
        if before is not None:
            self.test.assertEqual(creation, before + 1, f'{self.context}\nour creation of {name!r} when it came back')
        self.creations[name] = creation

    def leave(self, name, how):
        """Ends the registration of `name` by how(connection), and waits until both mappers know."""
        connections = self.nodes.pop(name)
        for connection in connections:
            how(connection)
        self.wait_gone(name)
        self.close_both(connections)

    def wait_gone(self, name):
        for mapper in self.mappers:
            if 0 < len(name.decode()) < harness.NAME_CODE_POINTS_MAX:
                mapper.wait_gone(name)
            else:  # can be registered, but not looked up
                harness.wait_until(lambda m=mapper: name not in dict(m.names()), f'{name!r} is gone')

    def stopped(self, name):
        """After STOP: the node's connections have been closed by both."""
        for who, connection in zip(('stock', 'ours'), self.nodes[name]):
            self.test.assertTrue(harness.sees_close(connection), f'{self.context}\n{who} keeps a stopped node')
        self.leave(name, lambda connection: None)


class Stream:
    """The random requests of one pair of mappers."""

    def __init__(self, rng, pair, relaxed):
        self.rng = rng
        self.pair = pair
        self.relaxed = relaxed
        self.pool = [b'node%d' % i for i in range(120)] + LONG_NAMES[:2] + ['größe'.encode(), '€uro'.encode(), '😀'.encode()]
        self.pending = []  # (data, sent, connections)
        self.actions = [
            (14, self.register), (8, self.unregister), (5, self.register_taken), (16, self.lookup), (3, self.lookup_odd),
            (6, self.names), (3, self.dump), (2, self.kill), (4, self.stop), (6, self.register_odd), (8, self.mutate),
            (4, self.wrong_length), (4, self.truncate), (3, self.trailing), (3, self.noise), (3, self.half_then_close),
            (3, self.begin), (3, self.go_on), (2, self.later_bytes), (2, self.with_half_close),
        ]
        self.weights = [weight for weight, _ in self.actions]

    def close(self):
        for _, _, connections in self.pending:
            self.pair.close_both(connections)

    def step(self):
        _, action = self.rng.choices(self.actions, self.weights)[0]
        action()

    # Ingredients.

    def a_name(self):
        if self.pair.nodes and self.rng.random() < 0.6:
            return self.rng.choice(list(self.pair.nodes))
        return self.rng.choice(self.pool)

    def odd_name(self):
        kind = self.rng.randrange(5)
        if kind == 0:
            return self.rng.choice(BAD_UTF8)
        if kind == 1:
            return self.rng.choice(ODD_UTF8)
        if kind == 2:
            return self.rng.choice(LONG_NAMES)
        if kind == 3:
            return self.rng.choice([b'', b'\0', b'a\0', b'\0a', b'a\0b', b'a\0\0', self.a_name() + b'\0'])
        return bytes(self.rng.randrange(256) for _ in range(self.rng.randrange(1, 9)))

    def alive2(self, name):
        rng = self.rng
        return alive2_body(
            name, port=rng.choice([0, 1, 4369, 65535, rng.randrange(65536)]), node_type=rng.choice([77, 72, rng.randrange(256)]),
            protocol=rng.choice([0, 0, 1, rng.randrange(256)]), highest=rng.choice([6, 6, 6, 5, 4, 0, 7, 65535]),
            lowest=rng.choice([5, 6, 0, rng.randrange(65536)]),
            extra=rng.choice([b'', b'', b'x', bytes(rng.randrange(256) for _ in range(rng.randrange(40)))]))

    def any_body(self):
        kind = self.rng.randrange(8)
        if kind <= 2:
            return self.alive2(self.a_name())
        if kind <= 4:
            return b'z' + self.a_name()
        if kind == 5:
            return b'n'
        if kind == 6:
            return b'd'
        return b's' + self.a_name()

    def chunks(self, data):
        """Mostly one; else several, the last of which has the last byte that is needed and all that follows."""
        if self.rng.random() < 0.8 or len(data) < 3:
            return [data]
        needed = min(len(data), 2 + struct.unpack('>H', data[:2])[0])
        if needed < 3:
            return [data]
        cuts = sorted({0, *(self.rng.randrange(1, needed) for _ in range(self.rng.randrange(1, 4)))})
        return [data[start:end] for start, end in zip(cuts, cuts[1:] + [len(data)])]

    def send(self, data, **options):
        body = data[2:]
        if body[:1] == b'k' and (self.relaxed or not self.pair.nodes):
            return b''  # would end the mappers
        if body[:1] == b'x' and body[9:11] == b'\0\0':
            return b''  # EdgeTest.test_empty_name
        if has_control(data):
            return b''  # DeliberateDifferenceTest
        if body[:1] == b'x' and not options.get('half_close') and len(self.pair.nodes) >= NODES_MAX:
            self.unregister()
        if body[:1] == b's' and self.relaxed:
            return self.send_stop(data, **options)
        return self.pair.exchange(data, chunks=options.pop('chunks', None) or self.chunks(data), **options)

    def send_stop(self, data, **options):
        # An unknown name is answered differently on purpose.
        name = data[3:].rstrip(b'\0')
        if name not in self.pair.nodes and is_whole(data):
            return b''
        reply = self.pair.exchange(data, chunks=options.pop('chunks', None) or self.chunks(data), **options)
        if reply == b'STOPPED':
            self.pair.stopped(name)
        return reply

    # Actions.

    def register(self):
        name = self.rng.choice(self.pool)
        self.send(frame(self.alive2(name)))

    def register_taken(self):
        if self.pair.nodes:
            self.send(frame(self.alive2(self.rng.choice(list(self.pair.nodes)))))

    def register_odd(self):
        body = alive2_body(self.odd_name(), highest=self.rng.choice([5, 6]),
                           extra=self.rng.choice([b'', b'', b'', b'e' * 1020, b'e' * 1021, b'\0', b'\xff']))
        self.send(frame(body))

    def unregister(self):
        names = [name for name in self.pair.nodes]
        if not names:
            return
        how = self.rng.choice([lambda c: c.close(), lambda c: c.shutdown(socket.SHUT_WR), harness.reset])
        self.pair.leave(self.rng.choice(names), how)

    def later_bytes(self):
        if self.pair.nodes:
            later = self.rng.choice([b'\0', b'x', frame(b'n'), b'\x00\x01', b'y' * 5000])
            self.pair.leave(self.rng.choice(list(self.pair.nodes)), lambda connection: connection.sendall(later))

    def lookup(self):
        self.send(frame(b'z' + self.a_name() + self.rng.choice([b'', b'', b'', b'\0'])))

    def lookup_odd(self):
        self.send(frame(b'z' + self.odd_name()))

    def names(self):
        self.send(frame(b'n' + self.rng.choice([b'', b'', b'', b'x', b'\0' * 10])))

    def dump(self):
        self.send(frame(b'd' + self.rng.choice([b'', b'', b'', b'x', b'\0' * 10])))

    def kill(self):
        self.send(frame(b'k' + self.rng.choice([b'', b'', b'x', b'\0' * 10])))

    def stop(self):
        self.send(frame(b's' + (self.a_name() if self.rng.random() < 0.7 else self.odd_name())))

    def mutate(self):
        data = bytearray(frame(self.any_body()))
        for _ in range(self.rng.choice([1, 1, 2, 5])):
            data[self.rng.randrange(2, len(data))] = self.rng.randrange(256)
        self.send(bytes(data))

    def wrong_length(self):
        """Lengths inside ALIVE2 that do not fit."""
        body = bytearray(self.alive2(self.a_name()))
        name_size, = struct.unpack('>H', body[9:11])
        at = self.rng.choice([9, 11 + name_size])
        right, = struct.unpack('>H', body[at:at + 2])
        wrong = self.rng.choice([right - 1, right + 1, 0, 65535, self.rng.randrange(65536)]) % 65536
        body[at:at + 2] = struct.pack('>H', wrong)
        self.send(frame(bytes(body)))

    def truncate(self):
        """A shorter body whose frame length is right."""
        body = self.any_body()
        self.send(frame(body[:self.rng.randrange(1, len(body) + 1)]))

    def trailing(self):
        """More bytes than the length announced, or than the request needs."""
        body = self.any_body()
        tail = bytes(self.rng.randrange(256) for _ in range(self.rng.choice([1, 2, 100, 4000])))
        if self.rng.random() < 0.5:
            self.send(frame(body) + tail, chunks=[frame(body) + tail])
        elif len(body + tail) <= BODY_SIZE_MAX:
            self.send(frame(body + tail))

    def noise(self):
        size = self.rng.choice([1, 2, 3, 10, 100, 3057, 3058, 3059, 10000])
        data = bytes(self.rng.randrange(256) for _ in range(size))
        if self.rng.random() < 0.5:
            data = struct.pack('>H', self.rng.choice([0, 1, max(size - 2, 0), 3056, 3057, 3058, 65535])) + data[2:]
        self.send(data, chunks=[data])

    def half_then_close(self):
        data = frame(self.any_body())
        self.pair.exchange(data[:self.rng.randrange(0, len(data))], half_close=True)

    def with_half_close(self):
        """A whole request whose sender says at once that nothing more will follow."""
        name = self.a_name()
        body = self.rng.choice([b'n', b'd', b'z' + name])
        if self.rng.random() < 0.3 and name not in self.pair.nodes:
            body = self.alive2(name)
        self.send(frame(body), half_close=True)

    def begin(self):
        """A request of which the rest comes later, or never."""
        if len(self.pending) >= PENDING_MAX:
            self.go_on()
        data = frame(self.any_body())
        sent = self.rng.randrange(0, len(data))
        connections = self.pair.connect()
        for connection in connections:
            connection.sendall(data[:sent])
        self.pending.append((data, sent, connections))

    def go_on(self):
        if not self.pending:
            return
        data, sent, connections = self.pending.pop(self.rng.randrange(len(self.pending)))
        unknown_to_stop = data[2:3] == b's' and self.relaxed and data[3:] not in self.pair.nodes
        if self.rng.random() < 0.3 or unknown_to_stop:
            self.pair.close_both(connections)
            return
        self.send(data, chunks=[data[sent:]], connections=connections)


@unittest.skipIf(STOCK_MISSING, 'no stock epmd here')
class StreamTest(unittest.TestCase):

    count = COUNT

    def run_stream(self, share, relaxed):
        requests = 0
        epoch = 0
        while requests < share:
            rng = random.Random(f'{SEED} {relaxed} {epoch}')
            args = ['-packet_timeout', '600'] + (['-relaxed_command_check'] if relaxed else [])
            with Pair(self, args) as pair:
                stream = Stream(rng, pair, relaxed)
                try:
                    while pair.requests < min(EPOCH_REQUESTS, share - requests):
                        pair.context = f'SEED={SEED} relaxed={relaxed} epoch {epoch} request {pair.requests}'
                        stream.step()
                finally:
                    stream.close()
                pair.exchange(frame(b'd'))
                requests += pair.requests
            epoch += 1
        self.assertGreaterEqual(requests, share)

    def test_stream(self):
        self.run_stream(self.count - self.count // 2, relaxed=False)

    def test_stream_with_relaxed_command_check(self):
        self.run_stream(self.count // 2, relaxed=True)


@unittest.skipIf(STOCK_MISSING, 'no stock epmd here')
class EdgeTest(unittest.TestCase):
    """The edges one by one, so that a failure says which."""

    def pair(self, *args):
        pair = Pair(self, args)
        pair.__enter__()
        self.addCleanup(pair.close)
        pair.exchange(frame(alive2_body(b'anchor', port=4711, extra=b'extra')))
        return pair

    def exchange_each(self, pair, requests):
        for data in requests:
            with self.subTest(request=data[:60], size=len(data)):
                before = set(pair.nodes)
                pair.exchange(data)
                for name in set(pair.nodes) - before:
                    pair.leave(name, lambda connection: connection.close())
        pair.exchange(frame(b'd'))

    def test_frame_lengths(self):
        pair = self.pair()
        requests = [struct.pack('>H', size) for size in (0, BODY_SIZE_MAX + 1, BODY_SIZE_MAX + 2, 4096, 65535)]
        requests += [b'', b'\x00', b'\x00\x01', b'\x0b\xf1', frame(b'n')[:2], b'\x00\x00n', b'\xff\xffn']
        for size in (BODY_SIZE_MAX - 1, BODY_SIZE_MAX, BODY_SIZE_MAX + 1):
            requests += [frame(b'n' * size), frame(b'z' + b'a' * (size - 1)), frame(b'q' * size)]
        self.exchange_each(pair, requests)

    def test_more_bytes_than_announced(self):
        pair = self.pair()
        requests = []
        for body in (b'n', b'd', b'k', b'zanchor', alive2_body(b'trailing')):
            requests += [frame(body) + tail for tail in (b'\0', b'n', frame(body), b'a' * 3057, b'a' * 20000)]
        self.exchange_each(pair, requests)

    def test_more_bytes_than_announced_after_the_length(self):
        """Once a mapper has read the length it looks at no byte too many."""
        pair = self.pair()
        for body in (b'n', b'zanchor', b'zanchor\0\0', b'q', alive2_body(b'late')):
            data = frame(body)
            # A request that is whole is answered at once, and bytes that come while it is being answered end the connection.
            for cut in (cut for cut in (1, 2, 3) if cut < len(data)):
                for tail in (b'a', data):
                    with self.subTest(body=body[:10], cut=cut, tail=tail[:1]):
                        connections = pair.connect()
                        for connection in connections:
                            connection.sendall(data[:cut])
                            harness.wait_until(lambda c=connection: harness.all_read(c), 'the first bytes are read')
                        before = set(pair.nodes)
                        pair.exchange(data, chunks=[data[cut:] + tail], connections=connections)
                        for name in set(pair.nodes) - before:
                            pair.leave(name, lambda connection: None)
        pair.exchange(frame(b'd'))

    def test_more_bytes_than_the_longest_frame(self):
        pair = self.pair()
        self.exchange_each(pair, [frame(b'n' * BODY_SIZE_MAX) + b'a', frame(b'n' * (BODY_SIZE_MAX - 1)) + b'a'])

    def test_all_request_bytes(self):
        pair = self.pair()
        bodies = [bytes([kind]) + tail for kind in range(256) for tail in (b'', b'anchor')]
        self.exchange_each(pair, [frame(body) for body in bodies])

    def test_prefixes_of_alive2(self):
        pair = self.pair()
        body = alive2_body(b'prefix', extra=b'extra')
        self.exchange_each(pair, [frame(body[:size]) for size in range(1, len(body) + 1)])
        self.exchange_each(pair, [frame(body + b'\0' * size) for size in range(1, 5)])
        self.exchange_each(pair, [frame(body)[:size] for size in range(0, len(body) + 2)])

    def test_lengths_within_alive2(self):
        pair = self.pair()
        requests = []
        for name_size in (0, 1, 3, 5, 6, 255, 1020, 1021, 65535):
            for extra_size in (0, 1, 4, 5, 6, 1020, 1021, 65535):
                head = b'x' + struct.pack('>HBBHHH', 1, 77, 0, 6, 5, name_size)
                requests.append(frame(head + b'name' + struct.pack('>H', extra_size) + b'extra'))
        self.exchange_each(pair, requests)

    def test_names_of_alive2(self):
        pair = self.pair()
        names = BAD_UTF8 + ODD_UTF8 + LONG_NAMES
        names += [b'', b'\0', b'a\0', b'\0a', b'a\0b', b'anchor', b'anchor\0', 'größe'.encode(), '😀'.encode()]
        for highest in (5, 6):
            self.exchange_each(pair, [frame(alive2_body(name, highest=highest)) for name in names])

    def test_empty_name(self):
        with Pair(self) as pair:  # with extra: DeliberateDifferenceTest
            pair.exchange(frame(alive2_body(b'')))
            pair.exchange(frame(b'n'))
            pair.exchange(frame(b'd'))

    def test_extra_of_alive2(self):
        pair = self.pair()
        extras = [b'', b'a', b'\0', b'\xff', b'e' * 255, b'e' * 256, b'e' * 1020, b'e' * 1021, b'e' * 2000]
        self.exchange_each(pair, [frame(alive2_body(b'extra', extra=extra)) for extra in extras])
        self.exchange_each(pair, [frame(alive2_body('😀'.encode() * 255, extra=extra)) for extra in extras])
        for number, extra in enumerate(extras):
            name = b'looked-up-%d' % number
            pair.exchange(frame(alive2_body(name, extra=extra)))
            pair.exchange(frame(b'z' + name))

    def test_versions_choose_the_size_of_the_creation(self):
        pair = self.pair()
        for highest in (0, 1, 4, 5, 6, 7, 255, 256, 65535):
            for name in (b'version', b'anchor'):
                with self.subTest(highest=highest, name=name):
                    reply = pair.exchange(frame(alive2_body(name, highest=highest)))
                    self.assertEqual(reply[:1], b'v' if highest >= 6 else b'y')
                    if name in pair.nodes and name != b'anchor':
                        pair.leave(name, lambda connection: connection.close())

    def test_names_of_port2(self):
        pair = self.pair()
        names = BAD_UTF8 + ODD_UTF8 + CONTROLS + LONG_NAMES
        names += [b'', b'\0', b'a\0', b'\0a', b'a\0b', b'anchor', b'anchor\0', b'anchor\0\0', b'anchor\0x', b'Anchor', b'anchorx']
        names += [name + b'\0' for name in LONG_NAMES]
        pair.exchange(frame(alive2_body('😀'.encode() * 255, port=65535)))
        pair.exchange(frame(alive2_body(b'b' * 255, port=0)))
        self.exchange_each(pair, [frame(b'z' + name) for name in names])

    def test_names_of_stop(self):
        for args in ([], ['-relaxed_command_check']):
            pair = self.pair(*args)
            # Not those of well-formed unknown names: answered differently on purpose.
            names = [b'', b'\0', b'\0a', b'a\0b', b'anchor\0x'] if args else BAD_UTF8 + ODD_UTF8 + CONTROLS + LONG_NAMES + [b'anchor', b'']
            for name in names:
                with self.subTest(args=args, name=name[:40]):
                    replies = []
                    for mapper in pair.mappers:
                        replies.append(mapper.stop_node(name).replace(b'NOEXISTSTOPPED', b'NOEXIST'))
                    self.assertEqual(*replies)
            if args:
                for name in (b'live', b'live-nul'):
                    pair.exchange(frame(alive2_body(name)))
                pair.exchange(frame(b'slive'))
                pair.stopped(b'live')
                replies = [mapper.stop_node(b'live-nul\0') for mapper in pair.mappers]
                self.assertEqual(*(reply.replace(b'NOEXISTSTOPPED', b'NOEXIST') for reply in replies))
            pair.exchange(frame(b'd'))

    def test_requests_on_the_connection_of_a_node(self):
        pair = self.pair()
        for later in (frame(b'n'), frame(alive2_body(b'second')), b'\0', frame(b'zanchor')):
            with self.subTest(later=later):
                pair.exchange(frame(alive2_body(b'chatty')))
                replies = []
                connections = pair.nodes[b'chatty']
                for connection in connections:
                    connection.sendall(later)
                    replies.append(harness.receive_all(connection))
                self.assertEqual(*replies)
                pair.leave(b'chatty', lambda connection: None)

    def test_kill(self):
        for args, nodes, ends in (([], 0, True), ([], 1, False), (['-relaxed_command_check'], 1, True)):
            with self.subTest(args=args, nodes=nodes), Pair(self, args) as pair:
                for number in range(nodes):
                    pair.exchange(frame(alive2_body(b'node%d' % number)))
                reply = pair.exchange(frame(b'k'))
                self.assertEqual(reply, b'OK' if ends else b'NO')
                if ends:
                    self.assertEqual(*[mapper.wait() for mapper in pair.mappers])
                else:
                    self.assertTrue(all(mapper.alive() for mapper in pair.mappers))


@unittest.skipIf(STOCK_MISSING, 'no stock epmd here')
class OrderTest(unittest.TestCase):

    def test_names_that_come_and_go(self):
        rng = random.Random(SEED)
        names = [b'n%d' % number for number in range(50)]
        with Pair(self) as pair:
            for round_number in range(600):
                name = rng.choice(names)
                if name in pair.nodes:
                    pair.leave(name, lambda connection: connection.close())
                else:
                    pair.exchange(frame(alive2_body(name, port=round_number)))
                if round_number % 5 == 0:
                    pair.context = f'round {round_number}'
                    pair.exchange(frame(b'n'))
                    pair.exchange(frame(b'd'))

    def test_old_names_after_many_left_at_once(self):
        with Pair(self) as pair:
            names = [b'old%d' % number for number in range(200)]
            for name in names:
                pair.exchange(frame(alive2_body(name)))
            for name in names:
                pair.leave(name, lambda connection: connection.close())
            pair.exchange(frame(b'd'))
            for name in (b'new1', b'new2', names[-1], names[0]):
                pair.exchange(frame(alive2_body(name)))
                pair.exchange(frame(b'd'))


for release, command in ({} if STOCK_MISSING else other_references()).items():
    for kind in (StreamTest, EdgeTest, OrderTest):
        name = f'{kind.__name__}WithOtp{release}'
        globals()[name] = type(name, (kind,), {'reference': command, 'count': OTHER_COUNT, '__doc__': f'With the epmd of OTP {release}.'})


@harness.ours_only
class DeliberateDifferenceTest(unittest.TestCase):
    """Where we differ from the stock epmd on purpose, one test each."""

    def test_refused_alive2_is_closed_after_its_reply(self):
        with harness.Mapper() as mapper:
            holder, _ = mapper.register(b'taken')
            for description in ({'highest': 6}, {'highest': 5}):
                for name in (b'taken', b'\xff', b'a' * 256):
                    with self.subTest(name=name[:10], **description):
                        connection, reply = mapper.alive2(name, **description)
                        self.assertEqual(harness.alive2_result(reply), (1, harness.REFUSED_CREATION))
                        self.assertTrue(harness.sees_close(connection))
                        connection.close()
            holder.close()

    def test_stop_of_an_unknown_name_answers_noexist_alone(self):
        with harness.Mapper(args=['-relaxed_command_check']) as mapper:
            self.assertEqual(mapper.stop_node(b'nobody'), b'NOEXIST')

    def test_an_empty_name_is_never_registered(self):
        with harness.Mapper() as mapper:
            for extra in (b'', b'e', b'extra'):
                connection, reply = mapper.alive2(b'', extra=extra)
                self.assertEqual(reply, b'')
                connection.close()
            self.assertEqual(mapper.names(), [])

    def test_control_characters_are_refused_like_malformed_names(self):
        with harness.Mapper() as mapper:
            for name in CONTROLS:
                for highest in (5, 6):
                    with self.subTest(name=name, highest=highest):
                        connection, reply = mapper.alive2(name, highest=highest)
                        connection.close()
                        malformed, expected = mapper.alive2(b'\xff', highest=highest)
                        malformed.close()
                        self.assertEqual(reply, expected)
                        self.assertEqual(harness.alive2_result(reply), (1, harness.REFUSED_CREATION))
                        self.assertEqual(mapper.lookup(name), None)
            self.assertEqual(mapper.names(), [])
            self.assertFalse([line for line in mapper.dump() if b'name' in line])

    @unittest.skipIf(STOCK_MISSING, 'no stock epmd here')
    def test_control_characters_are_registered_by_the_stock_one(self):
        with harness.Mapper(stock=True) as mapper:
            for name in CONTROLS:
                with self.subTest(name=name):
                    connection, reply = mapper.alive2(name)
                    self.assertEqual(harness.alive2_result(reply)[0], 0)
                    connection.close()

    def test_dump_lists_the_latest_thousand_old_names(self):
        # The registry remembers more; the stock epmd forgets beyond a thousand, and beyond five with -d.
        for args in ([], ['-d']):
            with self.subTest(args=args), harness.Mapper(args=args) as mapper:
                for number in range(1010):
                    mapper.register(b'old%d' % number)[0].close()
                    mapper.wait_gone(b'old%d' % number)
                old = [line for line in mapper.dump() if line.startswith(b'old/')]
                self.assertEqual([line.split(b'<')[1].split(b'>')[0] for line in old],
                                 [b'old%d' % number for number in range(10, 1010)])

    # That a partial write is never spun on: limits_test.SlowReaderTest.


if __name__ == '__main__':
    unittest.main()
