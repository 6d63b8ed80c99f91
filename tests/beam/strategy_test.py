"""The strategy for libcluster (tools/erlang/lib): nodes that are connected as they come.

    LIBCLUSTER_EBIN   directory with libcluster and telemetry, compiled (default: what the strategy needs of it, in
                      tests/fixtures/libcluster)
"""

import os
import shutil
import statistics
import unittest

import harness
from harness import scaled, wait_until
from harness.beam import BeamNode, NodesCase, compile_strategy, have_application

DEPLOYMENTS = scaled('EVERMAP_DEPLOYMENTS', 10, least=2)


@harness.ours_only
@harness.have_erlang
@unittest.skipUnless(shutil.which('elixirc'), 'no elixirc here')
@have_application
class StrategyTest(NodesCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        paths = compile_strategy(cls.tests, os.environ.get('LIBCLUSTER_EBIN'))
        cls.paths = ' '.join(f'-pa {path}' for path in paths)

    def start(self, name, config=''):
        node = BeamNode(name, self.mapper, self.directory, flags='-connect_all false ' + self.paths, tests=self.tests)
        self.addCleanup(node.close)
        self.assertEqual(node.evaluate(f"evermap_test_strategy:start('Evermap', [{config}])"), 'ok')
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
