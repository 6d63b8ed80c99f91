"""Nodes that registered with release 0.1.0 stay registered through an upgrade to this one, back, and to it again (P3, INV-7).

EPMD_0_1_0 is the mapper of that release; tools/project/former_release builds it from the history of the repository.
"""

import os
import resource
import signal
import unittest

import harness
from harness import EPMD, load
from harness.custody import CustodyCase
from harness.epmdctl import creations, status

EPMD_0_1_0 = os.environ.get('EPMD_0_1_0', '')
# Each has a connection here and one in the mapper. A process may have 20,000 descriptors on many machines.
NODES = harness.scaled('RELEASE_NODES', 10_000)
LAYOUT_AT = 8


@unittest.skipUnless(EPMD_0_1_0, 'EPMD_0_1_0 is not set')
class ReleaseTest(CustodyCase):

    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def layout_of(self, mapper):
        with open(mapper.registry, 'rb') as file:
            return file.read(LAYOUT_AT + 1)[LAYOUT_AT]

    def killed(self, mapper):
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')

    def test_there_and_back_again(self):
        mapper = self.kept(binary=EPMD_0_1_0)
        nodes = self.register(mapper, NODES)
        before = creations(mapper)
        self.assertEqual(set(before), set(nodes))
        self.assertEqual(self.layout_of(mapper), 2)
        with load.Load(mapper.port, nodes) as running:
            for binary, layout in ((EPMD, 3), (EPMD_0_1_0, 2), (EPMD, 3), (EPMD, 3), (EPMD_0_1_0, 2), (EPMD, 3)):
                done = mapper.upgraded(binary)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr + mapper.log())
                self.assertEqual(self.layout_of(mapper), layout)
                self.check_kept(mapper, before)
        print(f'\n{NODES} nodes: {running.distribution()}')
        self.assertEqual(running.failures, [])
        self.assertGreater(running.acknowledged, 0)
        self.check_kept(mapper, before)

    def test_crashes_between(self):
        """Keeper and mapper are of either release when one of them dies, and the names are those of nodes that have left, too."""
        mapper = self.kept(binary=EPMD_0_1_0)
        self.register(mapper, 100)
        gone, gone_creation = mapper.register(b'gone', port=9)
        creations_of_gone = {gone_creation}
        gone.close()
        mapper.wait_gone(b'gone')
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= 100, 'all are stored')
        self.killed(mapper)
        for binary in (EPMD, EPMD_0_1_0, EPMD):
            done = mapper.upgraded(binary)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr + mapper.log())
            self.check_kept(mapper, before)
            self.killed(mapper)
            self.check_kept(mapper, before)
            self.assertEqual(status(mapper)['orphaned'], 0)
            again, creation = mapper.register(b'gone', port=9)
            self.assertNotIn(creation, creations_of_gone)
            creations_of_gone.add(creation)
            again.close()
            mapper.wait_gone(b'gone')

    def test_a_mapper_of_0_1_0_that_fails(self):
        """The registry is back in this release's layout, and what registered meanwhile is in it."""
        mapper = self.kept()
        self.register(mapper, 50)
        before = creations(mapper)
        # It has the right layout the second time, and ends then.
        second = self.copy_of(mapper.directory, '#!/bin/sh\n'
                              f'if [ -e {mapper.directory}/second ]; then exit 7; fi\n'
                              f'touch {mapper.directory}/second\nexec "{EPMD_0_1_0}" "$@"\n')
        done = mapper.upgraded(second)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn('exit code 7', done.stdout + done.stderr)
        self.assertEqual(self.layout_of(mapper), 3)
        self.check_kept(mapper, before)
        harness.wait_until(lambda: not any(name.startswith('registry.previous') or name.startswith('registry.migrating')
                                           for name in os.listdir(mapper.directory)), 'nothing is left')
        self.assertEqual(mapper.upgraded(EPMD_0_1_0).returncode, 0, mapper.log())
        self.assertEqual(self.layout_of(mapper), 2)
        self.check_kept(mapper, before)

    def test_all_die_while_the_copy_is_there(self):
        """The mapper that dies between its copy and the start of the other release: its keeper starts this one again."""
        mapper = self.kept(binary=harness.EPMD_FAULTS, env={'EPMD_FAULTS': 'predecessor:copied=kill'})
        self.register(mapper, 50)
        before = creations(mapper)
        pid = mapper.mapper_pid()
        mapper.ask_for(EPMD_0_1_0)
        harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != pid, 'another mapper')
        self.check_kept(mapper, before)
        self.assertEqual(self.layout_of(mapper), 3)
        self.assertEqual(status(mapper)['orphaned'], 0)


if __name__ == '__main__':
    unittest.main()
