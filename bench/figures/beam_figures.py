#!/usr/bin/env python3
"""The figures of docs/beam.md: calls, events, CPU of polling nodes and of subscribers, and hostile readers.

usage: PYTHONPATH=tests EPMD=build/daemon/epmd bench/figures/beam_figures.py [calls | events | polling | hostile]...

Runs on an idle machine, with the programs of a release build; nodes of the Erlang in the path.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import harness
from harness.beam import BeamNode, compile_tests
from harness.process import cpu_of_threads_ns, cpu_seconds, wait_until

NAMES = 500
EVENTS = 200
CALLS = int(os.environ.get('BEAM_CALLS', '1000'))
NODES = int(os.environ.get('BEAM_NODES', '100'))
POLLING_S = 20
ROUNDS = 9
REQUESTS = 2000
HOSTILE = '''
import ctypes, os, sys
libc = ctypes.CDLL(None)
while (fd := libc.inotify_init()) >= 0:
    libc.inotify_add_watch(fd, sys.argv[1].encode(), 0xfff)
print('ready', flush=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
while True:
    os.pread(fd, 1 << 20, 0)
'''


def calls(mapper, directory, tests):
    """Microseconds of one call."""
    held = [mapper.register(f'n{number}'.encode(), port=1 + number)[0] for number in range(NAMES)]
    with BeamNode('figures', mapper, directory, tests=tests) as node:
        said = node.evaluate(f'evermap_test_bench:calls("n7", {CALLS})', 600)
        for what, ours, other in re.findall(r'\{(\w+),\{([\d.e-]+),([\d.e-]+)\}\}', said):
            print(f'{what}: {float(ours):.1f} us, erl_epmd {float(other):.1f} us, {float(other) / float(ours):.0f} times')
    for connection in held:
        connection.close()


def events(mapper, directory, tests):
    """From the newcomer's own reply until the subscriber has the event."""
    with BeamNode('figures', mapper, directory, tests=tests) as node:
        node.evaluate('application:start(evermap)')
        node.evaluate('evermap_test_view:start()')
        delays = []
        for number in range(EVENTS):
            connection, _ = mapper.register(f'e{number}'.encode(), port=1)
            registered_us = time.time_ns() // 1000
            told = wait_until(lambda: re.match(r'\{(\d+),up\}', node.evaluate(f'evermap_test_view:since(<<"e{number}">>)')), 'told')
            delays.append((int(told[1]) - registered_us) / 1000)
            connection.close()
        delays.sort()
        print(f'event: {statistics.median(delays):.2f} ms after the newcomer has its reply (p50), '
              f'{delays[int(0.99 * len(delays))]:.2f} ms (p99), {delays[-1]:.2f} ms (max)')


def polling(mapper, directory, tests):
    """CPU of NODES nodes and the mapper while nothing changes."""
    for how, begin in (('idle', 'ok'), ('polling every second', 'evermap_test_bench:poll(1000)'),
                       ('subscribed', 'begin application:start(evermap), evermap_test_view:start() end')):
        nodes = [BeamNode(f'p{number}', mapper, directory, tests=tests, flags='+S 1 +A 1') for number in range(NODES)]
        try:
            for node in nodes:
                node.evaluate(begin, 300)
            time.sleep(2)
            pids = [node.pid for node in nodes]
            before = cpu_seconds(pids), cpu_seconds([mapper.pid])
            time.sleep(POLLING_S)
            used = cpu_seconds(pids) - before[0], cpu_seconds([mapper.pid]) - before[1]
            print(f'{NODES} nodes {how}: {100 * used[0] / POLLING_S:.1f} % of a core, mapper {100 * used[1] / POLLING_S:.1f} %')
        finally:
            for node in nodes:
                node.kill()
                node.close()


def cost_us(mapper, request):
    """(time, CPU of the workers, CPU of all threads) of a request, in microseconds."""
    begun = time.monotonic_ns(), cpu_of_threads_ns(mapper.pid, 'epmd-worker'), cpu_of_threads_ns(mapper.pid)
    for number in range(REQUESTS):
        request(number)
    ended = time.monotonic_ns(), cpu_of_threads_ns(mapper.pid, 'epmd-worker'), cpu_of_threads_ns(mapper.pid)
    return [(end - begin) / REQUESTS / 1e3 for begin, end in zip(begun, ended)]


def hostile(mapper, directory, tests):
    """Lookups and registrations of one client, beside a reader of the registry and, in turns, beside one that does the same to a
    copy of it: both take a core."""
    del tests
    os.chmod(mapper.directory, 0o755)
    os.chmod(directory, 0o755)
    copy = os.path.join(directory, 'copy')
    shutil.copy(mapper.registry, copy)
    connection, _ = mapper.register(b'known', port=1)
    requests = {'lookup': lambda number: mapper.lookup(b'known'),
                'registration': lambda number: mapper.register(f'h{number}'.encode(), port=1)[0].close()}
    costs = {(path, what): [] for path in (copy, mapper.registry) for what in requests}
    for _ in range(ROUNDS):
        for path in (copy, mapper.registry):
            reader = subprocess.Popen(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', sys.executable, '-c', HOSTILE,
                                       path], stdout=subprocess.PIPE, text=True)
            reader.stdout.readline()
            for what, request in requests.items():
                costs[path, what].append(cost_us(mapper, request))
            reader.kill()
            reader.wait()
            reader.stdout.close()
    for what in requests:
        for at, of in enumerate(('time', 'CPU of workers', 'CPU of the mapper')):
            ratios = [one[at] / other[at] for one, other in zip(costs[mapper.registry, what], costs[copy, what])]
            print(f'{what}, {of}: {statistics.median(one[at] for one in costs[copy, what]):.1f} us beside a reader of a copy, beside a '
                  f'hostile one {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})')
    connection.close()


FIGURES = {'calls': calls, 'events': events, 'polling': polling, 'hostile': hostile}


def main():
    wanted = sys.argv[1:] or list(FIGURES)
    if not set(wanted) <= set(FIGURES):
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as tests:
        compile_tests(tests)
        for name in wanted:
            with tempfile.TemporaryDirectory() as directory, harness.Mapper() as mapper:
                FIGURES[name](mapper, directory, tests)
    return 0


if __name__ == '__main__':
    sys.exit(main())
