"""The strategy for libcluster (tools/erlang/lib): nodes that are connected as they come.

    LIBCLUSTER_EBIN   directory with libcluster and telemetry, compiled (default: what the strategy needs of it, in
                      tests/fixtures/libcluster)
"""

import os
import shutil
import statistics
import subprocess
import unittest

import harness
from harness import ROOT, scaled, wait_until
from harness.beam import APPLICATION, BeamNode, NodesCase, have_application

STRATEGY = os.path.join(ROOT, 'tools', 'erlang', 'lib', 'cluster', 'strategy', 'evermap.ex')
STAND_IN = os.path.join(ROOT, 'tests', 'fixtures', 'libcluster', 'libcluster.ex')
DEPLOYMENTS = scaled('EVERMAP_DEPLOYMENTS', 10, least=2)


def elixir_paths():
    done = subprocess.run(['elixir', '-e', 'for a <- [:elixir, :logger], do: IO.puts(:code.lib_dir(a))'], capture_output=True,
                          text=True, check=True, env=harness.clean_environment(LC_ALL='C.UTF-8'))
    return [os.path.join(line, 'ebin') for line in done.stdout.split()]


@harness.ours_only
@harness.have_erlang
@unittest.skipUnless(shutil.which('elixirc'), 'no elixirc here')
@have_application
class StrategyTest(NodesCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        real = os.environ.get('LIBCLUSTER_EBIN')
        paths = [os.path.join(APPLICATION, 'ebin'), *([real] if real else [])]
        sources = [STRATEGY] if real else [STAND_IN, STRATEGY]
        for source in sources:
            subprocess.run(['elixirc', *sum((['-pa', path] for path in [*paths, cls.tests]), []), '-o', cls.tests, source],
                           check=True, capture_output=True, env=harness.clean_environment(LC_ALL='C.UTF-8'))
        cls.paths = ' '.join(f'-pa {path}' for path in [*paths, *elixir_paths()])

    def start(self, name, config=''):
        node = BeamNode(name, self.mapper, self.directory, flags='-connect_all false ' + self.paths, tests=self.tests)
        self.addCleanup(node.close)
        # Elixir makes binaries of what is typed.
        self.assertEqual(node.evaluate('begin {ok, _} = application:ensure_all_started(elixir), io:setopts([list]) end'), 'ok')
        state = ("#{'__struct__' => 'Elixir.Cluster.Strategy.State', topology => here, connect => {net_kernel, connect_node, []}, "
                 "disconnect => {erlang, disconnect_node, []}, list_nodes => {erlang, nodes, [connected]}, meta => nil, "
                 f"config => [{config}]}}")
        self.assertEqual(node.evaluate(f"element(1, 'Elixir.Cluster.Strategy.Evermap':start_link([{state}]))"), 'ok')
        return node

    def nodes(self, node):
        return sorted(name.strip("'").split('@')[0] for name in node.evaluate('nodes()').strip('[]').split(',') if name)

    def until_nodes(self, node, expected):
        wait_until(lambda: self.nodes(node) == expected, lambda: f'{node.name} sees {expected}, and not {self.nodes(node)}')

    def test_connects_and_disconnects(self):
        names = '{names, [<<"web*">>, <<"api">>]}'
        web = self.start('web1', names)
        api = self.start('api', names)
        stranger = BeamNode('stranger', self.mapper, self.directory)
        self.addCleanup(stranger.close)
        self.until_nodes(web, ['api'])
        self.until_nodes(api, ['web1'])
        second = self.start('web2', names)
        for node, others in ((web, ['api', 'web2']), (api, ['web1', 'web2']), (second, ['api', 'web1'])):
            self.until_nodes(node, others)
        second.kill()
        self.until_nodes(web, ['api'])
        self.assertEqual(self.nodes(stranger), [])

    def test_deployments(self):
        """One of two is deployed anew again and again, and the mapper is upgraded between."""
        api = self.start('api')
        self.assertEqual(api.evaluate('evermap_test_nodes:start()'), 'ok')
        milliseconds = []
        for number in range(DEPLOYMENTS):
            web = self.start('web')
            self.until_nodes(web, ['api'])
            self.until_nodes(api, ['web'])
            milliseconds.append(self.connected_after_ms(api))
            web.kill()
            self.until_nodes(api, [])
            if number % 3 == 2:
                self.assertEqual(self.mapper.upgraded().returncode, 0)
        print(f'\nfrom registration to connection: {statistics.median(milliseconds):.1f} ms (p50), {max(milliseconds):.1f} ms (max)')

    def connected_after_ms(self, node):
        """From the registration that the registry has until the node was seen to be there."""
        return float(node.evaluate('begin {ok, #{since := S}} = evermap:lookup(web), '
                                   '[{At, _} | _] = evermap_test_nodes:ups(), (At - S) / 1.0e6 end'))


if __name__ == '__main__':
    unittest.main()
