"""A short soak: whatever can happen to a mapper, at random (soak.py runs as long as it is told)."""

import os
import unittest

import harness
import soak

SECONDS = float(os.environ.get('SOAK_SECONDS', '20'))
SEED = int(os.environ.get('SEED', '1'))


class SoakTest(unittest.TestCase):

    @harness.ours_only
    def test_soak(self):
        print('\n' + soak.Soak(SECONDS, SEED).run().report())


if __name__ == '__main__':
    unittest.main()
