"""Lets the system calls of the mapper under test and of the stock epmd fail in the same way, and prints what became of both.

usage: faults_compare.py [--per-mille N] [--seed N] [--loops LOOP,...]

    export PYTHONPATH=tests EPMD=build-release/daemon/epmd INJECT_FAULTS=build-release/tests/libinject_faults.so
    python3 tests/trust/faults_compare.py

For each call that a lookup needs, and each error that Linux, a security module or a container may give there: a server is started,
20 nodes register with it and stay connected, and while the calls fail at random 200 names are looked up, one after the other. Then
nothing fails any more. A row of the table has for each server

    errors   that were injected
    right    lookups that were answered with the port of the node; the others were closed, refused, or
    late     not answered within two seconds
    longest  lookup, answered or not
    cpu      used in the second after, in which nothing is asked, in percent of a core
    found    of the 20 nodes, with their port
    open     of the connections of these nodes
    process  runs; has ended, with a code or a signal; or (the mapper under test, which a keeper starts again) is another one

The servers have different calls for the same; the left part of a row has them in the order of the servers. '-': there is no such
call, or this error does not come from it. --seed is for the names that are looked up and, with the pid of each process, for the
faults. Ends with exit code 1 when the mapper under test did not answer all, lost a node, or is not the same process.
"""

import argparse
import collections
import contextlib
import errno
import os
import random
import select
import struct
import sys
import time

import harness
from harness import Kept
from harness.faults import INJECT, RING_SERVING, SERVING, STEADY, Switch

LOOKUPS = 200
LOOKUP_TIMEOUT_S = 2.0
IDLE_S = 1.0
DESCRIPTORS = 1024
STOCK = 'stock'
RUNS = 'runs'

# (what for, {server: its call}, errors). Calls that only a registration needs are not made here.
CALLS = (
    ('accept', {'io_uring': 'ring_accept', 'epoll': 'accept4', STOCK: 'accept'}, SERVING['accept4']),
    ('accept', {'epoll': 'accept4', STOCK: 'accept'}, (errno.EAGAIN,)),
    ('wait', {'io_uring': 'ring_enter', 'epoll': 'epoll_wait', STOCK: 'select'}, (errno.EINTR,)),
    ('wait', {'io_uring': 'ring_enter', STOCK: 'select'}, (errno.ENOMEM,)),
    ('wait', {'io_uring': 'ring_enter'}, (errno.EAGAIN, errno.EBUSY)),
    ('wait', {'io_uring': 'ring_poll'}, RING_SERVING['ring_poll']),
    ('watch', {'io_uring': 'epoll_ctl', 'epoll': 'epoll_ctl'}, SERVING['epoll_ctl']),
    ('who asks', {'io_uring': 'getpeername', 'epoll': 'getpeername', STOCK: 'getpeername'}, (errno.ENOBUFS, errno.ENOTCONN)),
    ('read', {'io_uring': 'recv', 'epoll': 'recv', STOCK: 'read'}, SERVING['recv']),
    ('write', {'io_uring': 'send', 'epoll': 'send', STOCK: 'write'}, SERVING['send']),
    ('close', {'io_uring': 'close', 'epoll': 'close', STOCK: 'close'}, (errno.EINTR, errno.EIO)),
)

Outcome = collections.namedtuple('Outcome', 'errors right wrong late longest_s cpu found open process')
HEADINGS = 'errors right late longest cpu% found open process'.split()
WIDTHS = (6, 5, 4, 7, 4, 5, 4, 11)


def ask(mapper, name, port):
    """'right', 'wrong', 'closed' (or refused), or 'late'."""
    try:
        with mapper.connect(LOOKUP_TIMEOUT_S) as connection:
            connection.sendall(harness.frame(b'z' + name))
            reply = harness.receive_all(connection)
    except TimeoutError:
        return 'late'
    except OSError:
        return 'closed'
    if reply == b'':
        return 'closed'
    return 'right' if reply[:4] == b'w\x00' + struct.pack('>H', port) else 'wrong'


def processes(mapper):
    if isinstance(mapper, Kept):
        return mapper.family()
    return {mapper.pid} if mapper.alive() else set()


def fate(mapper, before):
    now = processes(mapper)
    if now == before:
        return RUNS
    return 'another' if now else f'ended ({mapper.wait()})'


def inflict(mapper, switch, rng):
    nodes = {b'steady%d' % number: 5000 + number for number in range(STEADY)}
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(mapper.register(name, port=port)[0]) for name, port in nodes.items()]
        before = processes(mapper)
        counts = collections.Counter()
        longest_s = 0.0
        with switch:
            for _ in range(LOOKUPS):
                name = rng.choice(list(nodes))
                started = time.monotonic()
                counts[ask(mapper, name, nodes[name])] += 1
                longest_s = max(longest_s, time.monotonic() - started)
        used_s = -harness.cpu_seconds(before)
        started = time.monotonic()
        time.sleep(IDLE_S)
        used_s += harness.cpu_seconds(before)
        cpu = used_s / (time.monotonic() - started)
        found = sum(ask(mapper, name, port) == 'right' for name, port in nodes.items())
        # A node is told nothing more: what there is to be read is the end.
        closed = sum(bool(select.select([connection], [], [], 0)[0]) for connection in connections)
        return Outcome(switch.injected, counts['right'], counts['wrong'], counts['late'], longest_s, cpu, found,
                       STEADY - closed, fate(mapper, before))


def outcome_of(server, call, error, per_mille, seed):
    with contextlib.closing(Switch([(call, error, per_mille)], seed)) as switch:
        options = {'env': switch.environment, 'descriptors': DESCRIPTORS}
        if server == STOCK:
            mapper = harness.Mapper(stock=True, **options)
        else:
            mapper = Kept(loop=server, args=['-workers', '2'], **options)
        with contextlib.closing(mapper):
            mapper.start()
            return inflict(mapper, switch, random.Random(seed))


def is_unharmed(outcome):
    return (outcome.errors > 0 and outcome.right == LOOKUPS and outcome.found == outcome.open == STEADY and
            outcome.process == RUNS)


def cells(values):
    return ' '.join(f'{value:>{width}}' for value, width in zip(values, WIDTHS))


def text_of(outcome):
    if outcome is None:
        return cells(['-'] * len(WIDTHS))
    cpu = f'{outcome.cpu * 100:.0f}' if outcome.process == RUNS else '-'
    return cells([outcome.errors, outcome.right, outcome.late, f'{outcome.longest_s * 1000:.0f} ms', cpu, outcome.found,
                  outcome.open, outcome.process])


def main():
    parser = argparse.ArgumentParser(description='Lets system calls of the mapper and of the stock epmd fail.')
    parser.add_argument('--per-mille', type=int, default=150, help='of the calls fail')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--loops', default='io_uring,epoll', help='of the mapper under test: comma-separated')
    options = parser.parse_args()
    if INJECT is None or not os.path.exists(INJECT):
        parser.error('INJECT_FAULTS is not the path of inject_faults.c as a library')
    if harness.STOCK_EPMD is None or harness.TESTING_STOCK or harness.INSTRUMENTED:
        parser.error('takes a mapper (EPMD), without a sanitizer, and a stock epmd (STOCK_EPMD)')
    servers = [*options.loops.split(','), STOCK]
    outcomes = {server: [] for server in servers}
    print(f'{"":51} | ' + ' | '.join(f'{server:{sum(WIDTHS) + len(WIDTHS) - 1}}' for server in servers))
    print(f'{"call":38} {"error":12} | ' + ' | '.join(cells(HEADINGS) for _ in servers), flush=True)
    for purpose, calls, errors in CALLS:
        names = list(dict.fromkeys(calls.get(server, '-') for server in servers))
        if names == ['-']:
            continue
        for error in errors:
            row = []
            for server in servers:
                outcome = None
                if server in calls:
                    outcome = outcome_of(server, calls[server], error, options.per_mille, options.seed)
                    outcomes[server].append(outcome)
                row.append(outcome)
            what = f'{purpose}: {", ".join(names)}'
            print(f'{what:38} {errno.errorcode[error]:12} | ' + ' | '.join(map(text_of, row)), flush=True)
    for server, results in outcomes.items():
        print(f'{server}: {sum(map(is_unharmed, results))} of {len(results)} as if nothing had failed; '
              f'{sum(result.right for result in results)} of {LOOKUPS * len(results)} lookups right, '
              f'{sum(result.wrong for result in results)} wrong; '
              f'{sum(result.found for result in results)} of {STEADY * len(results)} nodes found; '
              f'{sum(result.process != RUNS for result in results)} ended; '
              f'{sum(result.errors for result in results)} errors')
    return 0 if all(is_unharmed(outcome) for server, results in outcomes.items() if server != STOCK for outcome in results) else 1


if __name__ == '__main__':
    sys.exit(main())
