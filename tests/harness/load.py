"""A load on a mapper in a process of its own: lookups, lists, and registrations of names of its own, in closed loops.

    with load.Load(port, {b'node1': 4711}) as running:
        ...
    assert running.failures == []

A process of its own, because a test that starts programs has, for a moment, duplicates of its sockets in each of
them: a connection that it closes then is not closed yet.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time

from harness.environment import ROOT
from harness.wire import Client, alive2_result

THREADS = 3


class Load:
    """failures: what went wrong. seconds: how long each request took. acknowledged: registrations that were."""

    def __init__(self, port, nodes, tolerate_resets=False):
        self._task = {'port': port, 'nodes': {name.decode(): number for name, number in nodes.items()},
                      'tolerate': tolerate_resets}
        self.failures = []
        self.seconds = []
        self.acknowledged = 0

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, '-B', '-m', 'harness.load'], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=os.path.join(ROOT, 'tests')))
        self._process.stdin.write(json.dumps(self._task).encode() + b'\n')
        self._process.stdin.flush()
        self._process.stdout.readline()  # it has begun
        return self

    def __exit__(self, *_):
        output, _ = self._process.communicate()
        result = json.loads(output)
        self.failures, self.seconds, self.acknowledged = result['failures'], result['seconds'], result['acknowledged']

    def distribution(self):
        ordered = sorted(self.seconds)
        at = lambda share: f'{1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.2f}'
        return (f'{len(ordered)} requests, ms: p50 {at(.5)}, p90 {at(.9)}, p99 {at(.99)}, p99.9 {at(.999)}, '
                f'max {1000 * ordered[-1]:.2f}')


def name_of(thread):
    """What a thread registers and unregisters."""
    return b'load-%d' % thread


class _Loop:

    def __init__(self, task):
        self._client = Client(task['port'])
        self._nodes = {name.encode(): port for name, port in task['nodes'].items()}
        self._tolerate = task['tolerate']
        self.stop = threading.Event()
        self.failures = []
        self.seconds = []
        self.acknowledged = 0

    def run(self, thread):
        choice = random.Random(thread)
        names = list(self._nodes)
        turn = 0
        while not self.stop.is_set():
            turn += 1
            started = time.monotonic()
            try:
                if turn % 4 == 0:
                    self._register(name_of(thread))
                elif turn % 64 == 1:
                    self._list()
                else:
                    name = choice.choice(names)
                    found = self._client.lookup(name)
                    if found is None or found.port != self._nodes[name]:
                        self.failures.append(f'lookup of {name!r}: {found}')
            except (OSError, AssertionError) as error:
                # What is under way with a mapper that is killed is lost; what was acknowledged is not.
                if not self._tolerate:
                    self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - started)

    def _list(self):
        missing = self._nodes.items() - dict(self._client.names()).items()
        if missing and not self._tolerate:
            self.failures.append(f'a list without {sorted(missing)[:10]}')

    def _register(self, name):
        connection, reply = self._client.alive2(name, port=4711)
        with connection:
            if reply == b'' and self._tolerate:
                return
            result, _ = alive2_result(reply)
            if result == 0:
                self.acknowledged += 1
            elif not self._tolerate:  # after a kill the holder may be one that was never acknowledged
                self.failures.append(f'{name!r} was refused')


def main():
    loop = _Loop(json.loads(sys.stdin.readline()))
    threads = [threading.Thread(target=loop.run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    print('begun', flush=True)
    sys.stdin.read()  # until it is closed
    loop.stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps({'failures': loop.failures, 'seconds': loop.seconds, 'acknowledged': loop.acknowledged}))


if __name__ == '__main__':
    main()
