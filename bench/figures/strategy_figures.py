#!/usr/bin/env python3
"""How long two nodes that use libcluster need to find each other when one is deployed anew, with each of three strategies.

usage: PYTHONPATH=tests EPMD=build/daemon/epmd LIBCLUSTER_EBIN=DIRECTORY bench/figures/strategy_figures.py [DEPLOYMENTS]

LIBCLUSTER_EBIN: libcluster and its telemetry, compiled. The node `web` is killed and started again, and the mapper upgraded after
every third time, while `api` runs; both start the strategy as the last thing of their boot. Measured: from the registration
that the registry has until both nodes have said that the other is up. In the second row only `api` has a strategy; in the third
both start at the same time.
"""

import os
import re
import statistics
import sys
import tempfile

import harness
from harness.beam import BeamNode, compile_strategy, compile_tests
from harness.process import wait_until

STRATEGIES = 'Evermap', 'LocalEpmd', 'Epmd'
PATIENCE_S = 60


class Pair:

    def __init__(self, mapper, directory, tests, paths):
        self.mapper, self.directory, self.tests = mapper, directory, tests
        self.paths = ' '.join(f'-pa {path}' for path in paths)

    def start(self, name, strategy=None):
        return BeamNode(name, self.mapper, self.directory, tests=self.tests,
                        first_flags=f'-s evermap_test_strategy start {strategy}' if strategy else '-s evermap_test_nodes',
                        flags=f'-connect_all false {self.paths} -hosts web api')

    def connected_ns(self, node, other):
        """When `node` has seen the other come up, in ns since 1970; nothing when it has not."""
        ups = re.findall(r"\{(\d+),'?(\w+)@", node.evaluate('evermap_test_nodes:ups()'))
        return next((int(at) for at, name in ups if name == other.name), None)

    def found_after_ms(self, newcomer, other):
        def both():
            found = [self.connected_ns(newcomer, other), self.connected_ns(other, newcomer)]
            return None not in found and max(found)
        last_ns = wait_until(both, 'they see each other', PATIENCE_S)
        since_ns = int(newcomer.evaluate(f'begin {{ok, #{{since := S}}}} = evermap:lookup({newcomer.name}), S end'))
        return (last_ns - since_ns) / 1e6


def row(what, milliseconds):
    print(f'{what}: p50 {statistics.median(milliseconds):.0f} ms, max {max(milliseconds):.0f} ms', flush=True)


def deploy(pair, strategy, strategy_of_newcomer, deployments):
    with pair.start('api', strategy) as api:
        api.evaluate('node()')
        found = []
        for number in range(deployments):
            with pair.start('web', strategy_of_newcomer) as web:
                found.append(pair.found_after_ms(web, api))
                web.kill()
            wait_until(lambda: api.evaluate('nodes()') == '[]', 'the other has left')
            if number % 3 == 2 and pair.mapper.upgraded().returncode != 0:
                raise AssertionError('the upgrade failed')
        return found


def measure(pair, strategy, deployments):
    row(f'{strategy}, one is deployed anew', deploy(pair, strategy, strategy, deployments))
    # LocalEpmd looks once, at its own start.
    if strategy != 'LocalEpmd':
        row(f'{strategy}, which the newcomer does not have', deploy(pair, strategy, None, deployments))
    found = []
    for _ in range(deployments):
        with pair.start('web', strategy) as web, pair.start('api', strategy) as api:
            found.append(pair.found_after_ms(api, web))
            web.kill()
            api.kill()
        wait_until(lambda: not pair.mapper.names(), 'both have left')
    row(f'{strategy}, both start at the same time', found)


def main():
    deployments = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with harness.Kept() as mapper, tempfile.TemporaryDirectory(prefix='evermap-strategy-') as directory:
        tests = compile_tests(directory)
        paths = compile_strategy(tests, os.environ['LIBCLUSTER_EBIN'])
        pair = Pair(mapper, directory, tests, paths)
        for strategy in STRATEGIES:
            measure(pair, strategy, deployments)


if __name__ == '__main__':
    main()
