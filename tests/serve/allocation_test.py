"""Nothing is allocated on the path of a request: a worker has what it needs once it has served as many at a time."""

import contextlib
import os
import struct
import unittest

import harness
from harness import Mapper

COUNTER = os.environ.get('COUNT_ALLOCATIONS')
WARM_UP = 300
# More connections at a time than the requests of these tests overlap on a busy machine.
AT_A_TIME = 32
REQUESTS = 1000


@harness.ours_only
@unittest.skipIf(harness.INSTRUMENTED, 'sanitizers have an allocator of their own')
@unittest.skipIf(COUNTER is None, 'COUNT_ALLOCATIONS, the path of count_allocations.c as a library, is not set')
class AllocationTest(unittest.TestCase):

    def setUp(self):
        self.counter = os.memfd_create('allocations')
        self.addCleanup(os.close, self.counter)
        os.ftruncate(self.counter, 8)
        path = f'/proc/{os.getpid()}/fd/{self.counter}'
        self.mapper = Mapper(args=['-workers', '1'], env={'LD_PRELOAD': COUNTER, 'ALLOCATION_COUNTER': path})
        self.addCleanup(self.mapper.close)
        self.mapper.start()
        self.node, _ = self.mapper.register(b'node', port=4711, extra=b'e' * 900)
        self.addCleanup(self.node.close)

    def allocations(self):
        return struct.unpack('<Q', os.pread(self.counter, 8, 0))[0]

    def check(self, request, each=0):
        """each: allocations for one request."""
        with contextlib.ExitStack() as opened:
            for _ in range(AT_A_TIME):
                opened.enter_context(self.mapper.connect())
            self.assertEqual(self.mapper.lookup(b'node').port, 4711)
        for _ in range(WARM_UP):
            request()
        before = self.allocations()
        self.assertGreater(before, 0, 'the counter does not work')
        for _ in range(REQUESTS):
            request()
        self.assertEqual(self.allocations() - before, each * REQUESTS)

    def test_lookups(self):
        def lookups():
            self.assertEqual(self.mapper.lookup(b'node').port, 4711)
            self.assertIsNone(self.mapper.lookup(b'n' * 254))
        self.check(lookups)

    def test_registrations(self):
        name = b'come-and-go' * 20

        def come_and_go():
            connection, _ = self.mapper.register(name, port=5)
            connection.close()
            self.mapper.wait_gone(name)
        self.check(come_and_go)

    def test_refused_registrations(self):
        """What is asked is kept while the main thread finds out who holds the name, and nothing else is."""
        def refused():
            connection, reply = self.mapper.alive2(b'node')
            connection.close()
            self.assertEqual(reply[1:2], b'\x01')
        self.check(refused, each=1)

    def test_names_while_nothing_changes(self):
        self.check(lambda: self.assertEqual(self.mapper.names(), [(b'node', 4711)]))

    def test_broken_requests(self):
        def broken():
            for body in (b'z', b'q', b'x' * 3057, b'snode'):
                self.assertEqual(self.mapper.request(body), b'')
            self.assertEqual(self.mapper.raw(b'\xff\xff'), b'')
        self.check(broken)


if __name__ == '__main__':
    unittest.main()
