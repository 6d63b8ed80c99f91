"""The OTP application's own tests, in the Erlang of this machine: EUnit and Common Test (tools/erlang/test)."""

import os
import subprocess
import tempfile
import unittest

import harness
from harness import EPMD, clean_environment
from harness.beam import APPLICATION, BeamCase, have_application

TIMEOUT_S = 550


def has_library(name):
    done = subprocess.run(['erl', '-noshell', '-eval', f'halt(case code:lib_dir({name}) of {{error, _}} -> 1; _ -> 0 end).'],
                          env=clean_environment(ERL_EPMD_PORT=1), check=False)
    return done.returncode == 0


@harness.ours_only
@harness.have_erlang
@have_application
class ErlangTest(BeamCase):

    def run_erlang(self, command):
        # ct_run is a node, and starts the installed mapper as a daemon where none answers.
        mapper = harness.Mapper()
        self.addCleanup(mapper.close)
        mapper.start()
        home = tempfile.TemporaryDirectory(prefix='evermap-beam-')
        self.addCleanup(home.cleanup)
        environment = clean_environment(EPMD=EPMD, HOME=home.name, ERL_EPMD_PORT=mapper.port, LC_ALL='C.UTF-8')
        done = subprocess.run(command, cwd=home.name, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-8000:])
        return done.stdout

    @unittest.skipUnless(has_library('eunit'), 'no EUnit here')
    def test_eunit(self):
        said = self.run_erlang(['erl', '-noshell', '-pa', os.path.join(APPLICATION, 'ebin'), self.tests, '-eval',
                                'halt(case eunit:test(evermap_tests, [verbose]) of ok -> 0; _ -> 1 end).'])
        # None of them was skipped.
        self.assertIn('information', said)

    @unittest.skipUnless(has_library('common_test'), 'no Common Test here')
    def test_common_test(self):
        said = self.run_erlang(['ct_run', '-noshell', '-pa', os.path.join(APPLICATION, 'ebin'), '-dir', self.tests, '-suite',
                                'evermap_SUITE', '-no_auto_compile', '-logdir', '.'])
        self.assertRegex(said, r'[1-9]\d* ok, 0 failed of')


if __name__ == '__main__':
    unittest.main()
