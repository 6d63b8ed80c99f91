#!/usr/bin/env python3
"""What a port mapper costs that does nothing yet: size, start, memory; a row for each program that is given.

usage: bench/figures/footprint.py NAME=EPMD...     `stock=/usr/bin/epmd` for that of Erlang/OTP, which has no keeper

Programs are stripped before they are measured. Start: from fork to the whole first answer to NAMES, the programs taking turns,
median of ROUNDS. Memory: of all processes together, mapper and keeper, a second after the start: resident, which counts what
two of them share twice; and proportional, which does not.
"""

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 20
HOST = '127.0.0.1'
PORT_FIRST, PORT_LAST = 20000, 32000
NAMES_REQUEST = b'\0\1n'
PATIENCE_S = 20
SETTLED_S = 1


class Program:

    def __init__(self, name, path, directory):
        self.name = name
        self.is_stock = name == 'stock'
        # Debian's may be a script of use-evermap or a link; what runs is measured.
        self.path = os.path.join(directory, 'epmd-' + name)
        subprocess.run(['strip', '-o', self.path, os.path.realpath(path)], check=True)
        self.directory = directory
        self.starts_ms = []
        self.resident_kb = []
        self.proportional_kb = []

    def size_kb(self):
        return os.stat(self.path).st_size / 1024

    def libraries(self):
        dynamic = subprocess.run(['readelf', '-d', self.path], stdout=subprocess.PIPE, text=True, check=True).stdout
        return dynamic.count('(NEEDED)')

    def command(self, port):
        command = [self.path, '-port', str(port), '-address', HOST]
        return command if self.is_stock else [*command, '-registry', os.path.join(self.directory, f'registry.{port}')]

    def run_once(self, port):
        began = time.monotonic()
        process = subprocess.Popen(self.command(port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            while not answers(port):
                if process.poll() is not None or time.monotonic() > began + PATIENCE_S:
                    sys.exit(f'{self.name}: does not serve port {port}')
                time.sleep(0.0001)
            self.starts_ms.append((time.monotonic() - began) * 1000)
            time.sleep(SETTLED_S)
            pids = tree(process.pid)
            self.resident_kb.append(sum(memory_kb(pid, 'Rss') for pid in pids))
            self.proportional_kb.append(sum(memory_kb(pid, 'Pss') for pid in pids))
        finally:
            # It leads a session, which its keeper and mapper are in.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def row(self):
        quarters = statistics.quantiles(self.starts_ms, n=4)
        return (f'| {self.name} | {self.size_kb() / 1024:.2f} MiB | {self.libraries()} | {quarters[1]:.1f} ms ({quarters[0]:.1f} to '
                f'{quarters[2]:.1f}) | {statistics.median(self.resident_kb) / 1024:.1f} MiB | '
                f'{statistics.median(self.proportional_kb) / 1024:.1f} MiB |')


def answers(port):
    try:
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as connection:
            connection.sendall(NAMES_REQUEST)
            reply = b''
            while part := connection.recv(4096):
                reply += part
            return reply[:4] == port.to_bytes(4, 'big')
    except OSError:
        return False


def tree(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as children:
        return [pid, *(one for child in children.read().split() for one in tree(int(child)))]


def memory_kb(pid, name):
    with open(f'/proc/{pid}/smaps_rollup') as rollup:
        return int(re.search(rf'^{name}: +(\d+) kB', rollup.read(), re.M)[1])


def free_port():
    for port in range(PORT_FIRST + os.getpid() % 1000, PORT_LAST):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
    sys.exit('no free port')


def main():
    if len(sys.argv) < 2 or not all('=' in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix='evermap-footprint-') as directory:
        programs = [Program(*argument.split('=', 1), directory) for argument in sys.argv[1:]]
        for number in range(ROUNDS):
            # Who begins changes, too.
            for program in programs[number % len(programs):] + programs[:number % len(programs)]:
                program.run_once(free_port())
        print('| program | size | shared libraries | start to first answer, median (quartiles) | resident | proportional |')
        print('|---|---|---|---|---|---|')
        for program in programs:
            print(program.row())


if __name__ == '__main__':
    main()
