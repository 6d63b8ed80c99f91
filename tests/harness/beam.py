"""The OTP application evermap (tools/erlang) as meson has built it, and nodes that use it.

    EVERMAP_ERLANG   directory with its ebin and priv (default: beside EPMD, in the build directory)
"""

import os
import re
import subprocess
import tempfile
import unittest

from harness.environment import EPMD, ROOT, clean_environment
from harness.erlang import ErlangNode
from harness.mapper import Kept

APPLICATION = os.path.realpath(os.environ.get('EVERMAP_ERLANG') or os.path.join(os.path.dirname(EPMD), '..', 'tools', 'erlang'))
TESTS = os.path.join(ROOT, 'tools', 'erlang', 'test')
STRATEGY = os.path.join(ROOT, 'tools', 'erlang', 'lib', 'cluster', 'strategy', 'evermap.ex')
STAND_IN = os.path.join(ROOT, 'tests', 'fixtures', 'libcluster', 'libcluster.ex')

have_application = unittest.skipUnless(os.path.exists(os.path.join(APPLICATION, 'priv', 'evermap_nif.so')),
                                       'evermap was not built: no erlc, or no headers of Erlang')


def compile_tests(directory):
    """Compiles the modules of the application's own tests; returns where they are."""
    sources = sorted(os.path.join(TESTS, name) for name in os.listdir(TESTS) if name.endswith('.erl'))
    subprocess.run(['erlc', '+debug_info', '-Wall', '-Werror', '-o', directory, *sources], check=True)
    return directory


def elixir_paths():
    """Directories with Elixir's own modules, for a node of erl."""
    done = subprocess.run(['elixir', '-e', 'for a <- [:elixir, :logger], do: IO.puts(:code.lib_dir(a))'], capture_output=True,
                          text=True, check=True, env=clean_environment(LC_ALL='C.UTF-8'))
    return [os.path.join(line, 'ebin') for line in done.stdout.split()]


def compile_strategy(directory, libcluster=None):
    """Compiles the strategy for libcluster; returns the directories that a node which uses it has in its code path.

    libcluster: directory with libcluster and telemetry, compiled; without it, what the strategy needs of it is compiled, too.
    """
    paths = [os.path.join(APPLICATION, 'ebin'), *([libcluster] if libcluster else [])]
    for source in [STRATEGY] if libcluster else [STAND_IN, STRATEGY]:
        subprocess.run(['elixirc', *sum((['-pa', path] for path in [*paths, directory]), []), '-o', directory, source],
                       check=True, capture_output=True, env=clean_environment(LC_ALL='C.UTF-8'))
    return [*paths, *elixir_paths()]


def epmd_module_flags(module='evermap_epmd'):
    """What tells kernel of the module: a parameter since OTP 27.2, a flag before."""
    version = subprocess.run(
        ['erl', '-noshell', '-eval',
         'application:load(kernel), {ok, V} = application:get_key(kernel, vsn), io:put_chars(V), halt().'],
        capture_output=True, text=True, check=True, env=clean_environment(ERL_EPMD_PORT=1)).stdout
    parts = [int(part) for part in re.findall(r'\d+', version)]
    return f'-kernel epmd_module {module}' if parts >= [10, 2] else f'-epmd_module {module}'


class BeamNode(ErlangNode):
    """A node of erl that finds others through evermap_epmd, and has the modules of the tests."""

    def __init__(self, name, mapper, directory, flags='', tests=None, first_flags=''):
        # What the harness evaluates for the node is in the middle, and does not return.
        paths = os.path.join(APPLICATION, 'ebin') + (f' -pa {tests}' if tests else '')
        super().__init__(name, mapper.port, directory, env={
            'ERL_AFLAGS': first_flags,
            'ERL_FLAGS': f'-pa {paths} {epmd_module_flags()} -evermap_registry {mapper.registry} {flags}'})


class BeamCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.modules = tempfile.TemporaryDirectory(prefix='evermap-beam-')
        cls.tests = compile_tests(cls.modules.name)

    @classmethod
    def tearDownClass(cls):
        cls.modules.cleanup()


class NodesCase(BeamCase):
    """One with a mapper that has a keeper, and a home for nodes."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix='evermap-beam-')
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.mapper = Kept()
        self.addCleanup(self.mapper.close)
        self.mapper.start()
