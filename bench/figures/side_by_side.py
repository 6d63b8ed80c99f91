#!/usr/bin/env python3
"""What a request costs two mappers, told apart to half a percent: both live at the same time, on the same core, and are asked in
short bursts by turns, so that what else the machine does, and its clock, meets both alike.

usage: PYTHONPATH=tests bench/figures/side_by_side.py lookup | register | names LOOP EPMD OTHER_EPMD

CPU of all threads of the mapper (/proc/PID/task/*/schedstat, nanoseconds), and time, of a request, as EPMD / OTHER_EPMD. Which of
the two starts first makes a difference of a percent or two, so each does in one half of the rounds; the ratio is the geometric mean
of the medians of both halves, with its standard error. Mappers run without keeper, with one worker, on core 1; the load on core 0.
"""

import contextlib
import math
import os
import random
import socket
import statistics
import sys
import time

import harness
from harness import alive2_body, frame
from harness.process import cpu_of_threads_ns

NODES = 100
AT_ONCE = 16
REQUESTS = 1600  # in a burst
ROUNDS = 150     # of each half
MAPPER_CORE, LOAD_CORE = 1, 0

REQUEST = {
    'lookup': lambda number: b'znode%d' % random.randrange(NODES),
    'register': lambda number: alive2_body(b'new%d' % number),
    'names': lambda number: b'n',
}


def ask(port, kind):
    connections = []
    for number in range(AT_ONCE):
        connection = socket.create_connection((harness.HOST, port))
        connection.sendall(frame(REQUEST[kind](number)))
        connections.append(connection)
    for connection in connections:
        # A registration lasts as long as its connection.
        while connection.recv(1 << 16) and kind != 'register':
            pass
        connection.close()
    if kind == 'register':
        time.sleep(0.0005)  # until the names are free again


def burst(mapper, kind):
    """(CPU, time) of a request, in microseconds."""
    cpu, began = cpu_of_threads_ns(mapper.pid), time.perf_counter()
    for _ in range(REQUESTS // AT_ONCE):
        ask(mapper.port, kind)
    return (cpu_of_threads_ns(mapper.pid) - cpu) / REQUESTS / 1e3, (time.perf_counter() - began) / REQUESTS * 1e6


def half(programs, loop, kind):
    """The rounds: for each, (CPU, time) of the first program and of the second."""
    with contextlib.ExitStack() as stack:
        mappers = []
        for program in programs:
            mapper = harness.Mapper(loop=loop, args=['-workers', '1'])
            mapper.binary = program
            stack.enter_context(mapper)
            for thread in os.listdir(f'/proc/{mapper.pid}/task'):
                os.sched_setaffinity(int(thread), {MAPPER_CORE})
            for number in range(NODES):
                stack.enter_context(mapper.register(b'node%d' % number, port=4711)[0])
            burst(mapper, kind)
            mappers.append(mapper)
        rounds = []
        for number in range(ROUNDS):
            order = mappers if number % 2 else mappers[::-1]
            measured = {mapper: burst(mapper, kind) for mapper in order}
            rounds.append([measured[mapper] for mapper in mappers])
    return rounds


def combined(ratios, inverse):
    """(geometric mean of the medians of `ratios` and of 1 / `inverse`, its standard error)"""
    halves = []
    for values, sign in ((ratios, 1), (inverse, -1)):
        logs = sorted(sign * math.log(value) for value in values)
        low, high = logs[len(logs) // 4], logs[len(logs) * 3 // 4]
        # Of the median of a normal distribution, by its quartiles.
        halves.append((statistics.median(logs), 1.253 * (high - low) / 1.349 / math.sqrt(len(logs))))
    (one, error), (other, other_error) = halves
    return math.exp((one + other) / 2), math.hypot(error, other_error) / 2


def main():
    if len(sys.argv) != 5 or sys.argv[1] not in REQUEST:
        sys.exit(__doc__)
    kind, loop, *programs = sys.argv[1:]
    os.sched_setaffinity(0, {LOAD_CORE})
    rounds = half(programs, loop, kind)
    inverse_rounds = half(programs[::-1], loop, kind)
    for at, what in enumerate(('CPU', 'time')):
        ratio, error = combined([one[at] / other[at] for one, other in rounds],
                                [one[at] / other[at] for one, other in inverse_rounds])
        one_us, other_us = (statistics.median(values[at] for values in of_one) for of_one in zip(*rounds))
        print(f'{kind}, {loop}: {what} {ratio:.3f} +- {error:.3f} ({one_us:.1f} and {other_us:.1f} us)')


if __name__ == '__main__':
    main()
