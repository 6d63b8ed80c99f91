"""10,000 nodes at once."""

import unittest

import harness
from harness import Mapper

# The stock epmd ends at the 1,017th.
NODES = 900 if harness.TESTING_STOCK else harness.scaled('NODES', 10000, least=1200)
DESCRIPTORS_BESIDE_NODES = 200


class ScaleTest(unittest.TestCase):

    def test_many_nodes_at_once(self):
        limit = harness.raise_descriptor_limit()
        if limit < NODES + DESCRIPTORS_BESIDE_NODES:
            self.skipTest(f'{NODES} nodes need more file descriptors than the {limit} allowed here (ulimit -Hn)')
        names = [b'node-%d' % number for number in range(NODES)]
        ports = {name: 1 + number % 65535 for number, name in enumerate(names)}
        with Mapper() as mapper:
            connections = {}
            try:
                creations = {}
                for name in names:
                    connections[name], creations[name] = mapper.register(name, port=ports[name])

                for name in names:
                    found = mapper.lookup(name)
                    self.assertIsNotNone(found, name)
                    self.assertEqual((found.port, found.name), (ports[name], name))
                self.assertIsNone(mapper.lookup(b'node-%d' % NODES))
                self.assertEqual(mapper.names(), [(name, ports[name]) for name in reversed(names)])
                dump = mapper.dump()
                self.assertEqual(len(dump), NODES)
                for line, name in zip(dump, reversed(names)):
                    self.assertTrue(line.startswith(b'active name     <%b> at port %d, fd = ' % (name, ports[name])), line)

                # Every second one leaves; the others stay, in their order.
                leaving, staying = names[::2], names[1::2]
                for name in leaving:
                    connections.pop(name).close()
                harness.wait_until(lambda: len(mapper.names()) == len(staying), 'half of them left')
                self.assertEqual(mapper.names(), [(name, ports[name]) for name in reversed(staying)])
                for name in leaving[:200] + leaving[-200:]:
                    self.assertIsNone(mapper.lookup(name))
                for name in staying[:200] + staying[-200:]:
                    self.assertEqual(mapper.lookup(name).port, ports[name])

                # And come back.
                for name in leaving:
                    connections[name], creation = mapper.register(name, port=ports[name])
                    self.assertEqual(creation, creations[name] + 1, name)
                self.assertEqual(mapper.names(), [(name, ports[name]) for name in [*reversed(leaving), *reversed(staying)]])
            finally:
                for connection in connections.values():
                    connection.close()
            harness.wait_until(lambda: mapper.names() == [], 'all left')
            for name in names[:500] + names[-500:]:
                self.assertIsNone(mapper.lookup(name))
            self.assertEqual([line for line in mapper.dump() if line.startswith(b'active')], [])


if __name__ == '__main__':
    unittest.main()
