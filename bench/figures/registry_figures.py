#!/usr/bin/env python3
"""What a registry takes by what lives in it, and after how many names were seen: size of its file, memory of all processes, and
the CPU that a list costs after a change.

usage: PYTHONPATH=tests EPMD=build/daemon/epmd bench/figures/registry_figures.py [SEEN]

A row for 10, 1,000 and NODES_MAX live nodes, and for 10 live nodes after SEEN names (1,000,000 by default) that came and went.
The CPU: of the mapper alone, with that of the change itself, two mappers taking turns, median of ROUNDS and the quartiles of
the ratio.
"""

import contextlib
import os
import re
import resource
import socket
import statistics
import sys

import harness
from harness import frame, alive2_body

NODES = 10, 1000
# A process may have 20,000 descriptors on the machine that this was written on.
NODES_MAX = 18000
SEEN_DEFAULT = 1_000_000
ROUNDS = 15
LISTS = 400  # in a round


class Figures(harness.Kept):

    def __init__(self):
        super().__init__()
        self.nodes = []

    def hold(self, count):
        while len(self.nodes) < count:
            self.nodes.append(self.register(b'node%d' % len(self.nodes), port=4711)[0])

    def see(self, count):
        """Names that come and go, each once."""
        for number in range(count):
            with socket.create_connection((self.host, self.port)) as connection:
                connection.sendall(frame(alive2_body(b'seen%d' % number)))
                connection.recv(16)

    def row(self, what):
        file = os.stat(self.registry)
        resident = proportional = 0
        for pid in self.family():
            with open(f'/proc/{pid}/smaps_rollup') as rollup:
                text = rollup.read()
            resident += int(re.search(r'^Rss: *(\d+)', text, re.M).group(1))
            proportional += int(re.search(r'^Pss: *(\d+)', text, re.M).group(1))
        print(f'| {what} | {file.st_size / 1024:,.0f} | {file.st_blocks / 2:,.0f} | {resident / 1024:.1f} | {proportional / 1024:.1f} |',
              flush=True)

    def cpu_s(self):
        tasks = f'/proc/{self.mapper_pid()}/task'
        total_ns = 0
        for thread in os.listdir(tasks):
            with open(f'{tasks}/{thread}/schedstat') as stat:
                total_ns += int(stat.read().split()[0])
        return total_ns / 1e9

    def lists(self):
        """CPU of a change and the list after it, in seconds."""
        before = self.cpu_s()
        for _ in range(LISTS):
            with socket.create_connection((self.host, self.port)) as connection:
                connection.sendall(frame(alive2_body(b'changing')))
                connection.recv(16)
                self.request(b'n')
        return (self.cpu_s() - before) / LISTS


def main():
    seen = int(sys.argv[1]) if len(sys.argv) > 1 else SEEN_DEFAULT
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print('| nodes | file, KiB | of it allocated, KiB | resident, MiB | proportional, MiB |\n|---|---|---|---|---|')
    with contextlib.ExitStack() as stack:
        few, many = (stack.enter_context(Figures()) for _ in range(2))
        for mapper in (few, many):
            mapper.hold(NODES[0])
        few.row(NODES[0])
        many.see(seen)
        many.row(f'{NODES[0]}, after {seen:,} names seen')
        costs = []
        for number in range(ROUNDS + 1):
            pair = [mapper.lists() for mapper in ((few, many) if number % 2 else (many, few))]
            costs.append(pair if number % 2 else pair[::-1])
        costs = costs[1:]
        ratios = sorted(b / a for a, b in costs)
        print(f'CPU of a change and a list after it: {statistics.median(a for a, _ in costs) * 1e6:.0f} us with {NODES[0]} names seen, '
              f'{statistics.median(b for _, b in costs) * 1e6:.0f} with {seen:,}; ratio {statistics.median(ratios):.2f} '
              f'({ratios[len(ratios) // 4]:.2f}..{ratios[-len(ratios) // 4]:.2f})', flush=True)
        for count in (NODES[1], NODES_MAX):
            few.hold(count)
            harness.wait_until(lambda: len(few.names()) == count, 'all are registered')  # pylint: disable=cell-var-from-loop
            few.row(f'{count:,}')


if __name__ == '__main__':
    main()
