"""All attacks at once, for some seconds: nothing acknowledged is lost, no answer is wrong, and nothing is left (P7)."""

import os
import unittest

import harness
import hostile

SECONDS = float(os.environ.get('ATTACK_SECONDS', '10'))
SEED = int(os.environ.get('SEED', '1'))


class HostileTest(unittest.TestCase):

    @harness.ours_only
    def test_all_attacks_at_once(self):
        if harness.raise_descriptor_limit() < 8192:
            self.skipTest('too few file descriptors allowed here (ulimit -Hn)')
        self.assertEqual(hostile.Play(seconds=SECONDS, seed=SEED, capacity=2048).run().failures, [])

    def test_colliding_names_collide(self):
        def multiply_and_add(name, factor):
            value = 0
            for byte in name:
                value = (value * factor + byte) & 0xffffffff
            return value
        names = list(hostile.colliding_names())
        self.assertEqual(len(set(names)), 2048)
        self.assertEqual(len({multiply_and_add(name, 33) for name in names[:1024]}), 1)
        self.assertEqual(len({multiply_and_add(name, 31) for name in names[1024:]}), 1)


if __name__ == '__main__':
    unittest.main()
