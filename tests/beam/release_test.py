"""An Elixir release with the OTP application evermap as a dependency, as docs/beam.md has it: embedded mode, vm.args of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import harness
from harness import ROOT, clean_environment, wait_until
from harness.beam import epmd_module_flags

PROJECT = '''
defmodule Hare.MixProject do
  use Mix.Project
  def project, do: [app: :hare, version: "0.1.0", deps: [{:evermap, path: "../erlang"}]]
end
'''
BUILD_S = 300


@harness.ours_only
@harness.have_elixir
@unittest.skipUnless(shutil.which('make') and shutil.which('cc'), 'nothing here to compile the native library with')
class ReleaseTest(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix='evermap-beam-')
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.mapper = harness.Mapper()
        self.addCleanup(self.mapper.close)
        self.mapper.start()

    def build(self):
        # What is compiled is written beside the sources.
        shutil.copytree(os.path.join(ROOT, 'tools', 'erlang'), os.path.join(self.directory, 'erlang'))
        project = os.path.join(self.directory, 'hare')
        os.makedirs(os.path.join(project, 'rel'))
        for path, text in (('mix.exs', PROJECT), ('rel/vm.args.eex', epmd_module_flags() + '\n')):
            with open(os.path.join(project, path), 'w') as file:
                file.write(text)
        done = subprocess.run(['mix', 'release', '--path', os.path.join(self.directory, 'release')], cwd=project,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S, check=False,
                              env=clean_environment(HOME=self.directory, MIX_ENV='prod', LC_ALL='C.UTF-8'))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def environment(self, name):
        return clean_environment(HOME=self.directory, LC_ALL='C.UTF-8', RELEASE_DISTRIBUTION='sname', RELEASE_NODE=name,
                                 RELEASE_COOKIE='hare', RELEASE_TMP=os.path.join(self.directory, 'tmp-' + name),
                                 ERL_EPMD_PORT=self.mapper.port,
                                 ERL_FLAGS=f'-start_epmd false -evermap_registry {self.mapper.registry}')

    def start(self, name):
        process = subprocess.Popen([os.path.join(self.directory, 'release', 'bin', 'hare'), 'start'], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment(name),
                                   start_new_session=True)

        def end():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.addCleanup(end)
        wait_until(lambda: self.mapper.lookup(name.encode()), f'{name} is registered')

    def told_by(self, name, expression):
        done = subprocess.run([os.path.join(self.directory, 'release', 'bin', 'hare'), 'rpc', f'IO.inspect({expression})'],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment(name), timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.strip()

    def test_nodes_of_a_release_find_each_other(self):
        self.build()
        self.start('hare')
        self.start('tortoise')
        other = ':"tortoise@#{Node.self() |> Atom.to_string() |> String.split("@") |> List.last()}"'
        self.assertEqual(self.told_by('hare', f'{{Node.ping({other}), :code.get_mode()}}'), '{:pong, :embedded}')
        self.assertEqual(self.told_by('hare', ':evermap.info().registry.hits > 0'), 'true')
        # It is told of others, too.
        self.assertEqual(self.told_by('hare', 'for(%{name: n} <- elem(:evermap.subscribe(), 1), do: n) |> Enum.sort() '
                                              '|> Enum.filter(&(&1 in ["hare", "tortoise"]))'), '["hare", "tortoise"]')


if __name__ == '__main__':
    unittest.main()
