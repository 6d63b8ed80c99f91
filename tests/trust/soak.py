"""Lives with a mapper for as long as it is told: nodes come and go, and whatever can happen to a mapper does, at random.

usage: soak.py [--seconds N] [--seed N] [--nodes N]

    PYTHONPATH=tests EPMD=build-release/daemon/epmd python3 tests/trust/soak.py --seconds 1200 --seed 7

What happens is drawn from the seed: registrations, departures, upgrades, kill -9 of the mapper, of its keeper and of both,
SIGTERM and a new start, SIGSTOP for a moment, attacks (hostile.py). And, as root, what strangers do: a mapper of another network
namespace or port that is told to use the registry, files of the registry that are removed, another user who wants the names. After
each of these:

  S-1  Each node that was acknowledged and has not left is found, under its port, and has its creation.
  S-2  Names are unique, and nobody is listed who has left.
  S-3  A node whose connection was lost registers again, and gets the same creation.
  S-4  Two processes run, and their memory and descriptors are what the number of nodes explains; the registry's file does not
       grow beyond what its capacity explains.

Ends with exit code 1 and the seed when one of these does not hold; with what was until then on SIGTERM.
"""

import argparse
import collections
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time

import harness
import hostile
from harness import Kept
from harness.epmdctl import creations, status

NAMES = 200  # that nodes choose from
CAPACITY = 4096
ATTACK_SECONDS = 1.0
# Listeners, rings, links and the like of mapper and keeper.
DESCRIPTORS_BESIDES_NODES_MAX = 160
RESIDENT_GROWTH_KIB_MAX = 16 * 1024
# A record and its share of an extent's head for each name, and as much for the long names of attacks.
REGISTRY_GROWTH_BYTES_MAX = CAPACITY * 2 * 272
# From this many events on memory counts as what it is in the long run.
EVENTS_BEFORE_MEMORY = 60

# How often what happens, in parts.
EVENTS = {'come': 40, 'leave': 30, 'upgrade': 8, 'kill_mapper': 6, 'kill_keeper': 3, 'kill_both': 2, 'restart': 2,
          'stop_mapper': 3, 'stop_keeper': 2, 'attack': 1}
ROOT_EVENTS = {'stranger': 3, 'remove_files': 3, 'covet': 3}
NOBODY = 65534
STRANGER_SECONDS_MAX = 30


class Node:
    """What a node of OTP 24 and later does: it listens, and registers again when its connection is lost."""

    def __init__(self, mapper, name):
        self.mapper = mapper
        self.name = name
        self.listener = socket.create_server((harness.HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.connection = None
        self.creation = None
        self.lost = 0

    def register(self):
        """Registers; True when that is acknowledged."""
        try:
            connection, reply = self.mapper.alive2(self.name, port=self.port)
        except OSError:
            return False
        if reply == b'' or harness.alive2_result(reply)[0] != 0:
            connection.close()
            return False
        creation = harness.alive2_result(reply)[1]
        if self.creation is not None and creation != self.creation:
            raise AssertionError(f'S-3: {self.name!r} came back with creation {creation} instead of {self.creation}')
        self.connection, self.creation = connection, creation
        return True

    def come_back(self):
        """Registers again if the connection is lost."""
        if not select.select([self.connection], [], [], 0)[0]:
            return
        self.connection.close()
        self.lost += 1
        harness.wait_until(self.register, lambda: f'{self.name!r} is registered again; the mapper said '
                                                  f'{self.mapper.log()[-1500:]}')

    def leave(self):
        if self.connection is not None:
            self.connection.close()
        self.listener.close()


class Soak:

    def __init__(self, seconds, seed, nodes=100):
        self.seconds = seconds
        self.lasted_s = 0
        self.is_to_end = False
        self.seed = seed
        self.rng = random.Random(seed)
        self.events = EVENTS | (ROOT_EVENTS if os.geteuid() == 0 else {})
        self.nodes_max = nodes
        self.nodes = {}
        self.left = set()
        self.counts = collections.Counter()
        self.longest_ms = collections.defaultdict(float)  # until lookups were answered again
        self.resident = []
        self.reconnections = 0

    def run(self):
        harness.raise_descriptor_limit()
        self.mapper = Kept(args=['-capacity', str(CAPACITY), '-packet_timeout', '5'])
        try:
            self.mapper.start()
            self.registry_size_max = os.path.getsize(self.mapper.registry) + REGISTRY_GROWTH_BYTES_MAX
            began = time.monotonic()
            while time.monotonic() < began + self.seconds and not self.is_to_end:
                event, = self.rng.choices(list(self.events), self.events.values())
                self.now = event
                started = time.monotonic()
                getattr(self, event)()
                if event not in ('come', 'leave'):
                    self.longest_ms[event] = max(self.longest_ms[event], 1000 * (self.answered() - started))
                self.counts[event] += 1
                self.check()
            self.lasted_s = time.monotonic() - began
        except BaseException as error:
            error.args = (f'{error} (in event {sum(self.counts.values()) + 1}, {self.now}; seed {self.seed}; so far '
                          f'{dict(self.counts)}; the mapper said {self.mapper.log()[-3000:]})',)
            raise
        finally:
            for node in self.nodes.values():
                node.leave()
            self.mapper.close()
        return self

    # What can happen.

    def come(self):
        if len(self.nodes) >= self.nodes_max:
            return
        name = b'soak%d' % self.rng.randrange(NAMES)
        if name in self.nodes:
            connection, reply = self.mapper.alive2(name, port=1)
            connection.close()
            if harness.alive2_result(reply)[0] == 0:
                raise AssertionError(f'S-2: {name!r} is held by two')
            return
        node = Node(self.mapper, name)
        try:
            # Its holder before may have left just now.
            harness.wait_until(node.register, lambda: f'{name!r} is registered')
        except BaseException:
            node.leave()
            raise
        self.nodes[name] = node
        self.left.discard(name)

    def leave(self):
        if self.nodes:
            name = self.rng.choice(sorted(self.nodes))
            self.nodes.pop(name).leave()
            self.left.add(name)

    def upgrade(self):
        done = self.mapper.upgraded()
        if done.returncode != 0:
            raise AssertionError(f'upgrade: {done.stdout}{done.stderr}')

    def kill_mapper(self):
        pid = self.mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        self.wait_for_another(pid)

    def kill_keeper(self):
        mapper = self.mapper.mapper_pid()
        keeper, = self.mapper.family() - {mapper}
        os.kill(keeper, signal.SIGKILL)
        harness.wait_until(lambda: not harness.process_exists(keeper) and len(self.mapper.family() - {keeper}) == 2,
                           'another keeper')
        # Until it holds them, a kill of the mapper loses the connections, and the nodes have to come back.

    def kill_both(self):
        harness.wait_until(self.mapper.all_killed, 'all killed')
        self.start_again()

    def restart(self):
        family = self.mapper.family()
        keeper, = family - {self.mapper.mapper_pid()}
        os.kill(keeper, signal.SIGTERM)
        self.start_again()

    def start_again(self):
        harness.wait_until(lambda: not self.mapper.family(), 'all ended')
        if self.mapper._process is not None:
            self.mapper.wait()
        self.mapper.start()

    def stop_mapper(self):
        self.stop_for_a_moment(self.mapper.mapper_pid())

    def stop_keeper(self):
        self.stop_for_a_moment(*self.mapper.family() - {self.mapper.mapper_pid()})

    def stop_for_a_moment(self, pid):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.rng.random() * 0.3)
        os.kill(pid, signal.SIGCONT)

    def attack(self):
        arena = hostile.Arena(self.mapper.port, None, None, None, None)
        names = self.rng.sample(sorted(hostile.ATTACKS), 4)
        names = [name for name in names if not hostile.ATTACKS[name].from_outside] or ['Resets']
        with hostile.Attacks(arena, self.rng.random(), names):
            time.sleep(ATTACK_SECONDS)

    def stranger(self):
        """Another mapper is told to use this registry: it ends, and says who has it."""
        command = [harness.EPMD, '-registry', self.mapper.registry, '-address', harness.HOST, '-no_keeper', '-port']
        if self.rng.random() < 0.5:
            command = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', *command, str(self.mapper.port)]
        else:
            command.append(str(harness.free_port()))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=STRANGER_SECONDS_MAX, env=harness.clean_environment())
        if done.returncode != 1 or 'has it' not in done.stderr:
            raise AssertionError(f'a stranger ended with {done.returncode}: {done.stderr!r}')

    def remove_files(self):
        """They are put back; or the mapper dies, or is upgraded, before it has seen it."""
        pid = self.mapper.mapper_pid()
        files = [self.mapper.registry, self.mapper.registry + '.lock']
        for path in self.rng.choice((files, files[:1], files[1:])):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        then = self.rng.choice(('wait', 'upgrade', 'kill'))
        if then == 'upgrade':
            os.kill(pid, signal.SIGHUP)
        elif then == 'kill':
            os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: all(os.path.exists(path) for path in files), 'the files are back')
        if then != 'wait':
            self.wait_for_another(pid)

    def covet(self):
        """Another user wants names of living nodes, with their ports; or of nodes that wait to come back."""
        if self.rng.random() < 0.3:
            self.kill_both()
        wanted = self.rng.sample(sorted(self.nodes), min(len(self.nodes), 10))
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                got = 0
                for name in wanted:
                    connection, reply = self.mapper.alive2(name, port=self.nodes[name].port)
                    got += reply != b'' and harness.alive2_result(reply)[0] == 0
                    connection.close()
                code = 2 if got else 0
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 0:
            raise AssertionError(f'S-2: another user {"got a name" if code == 2 else "could not ask"}')

    def wait_for_another(self, pid):
        def is_another():
            said = status(self.mapper)
            return said['running'] and said['pid'] != pid
        harness.wait_until(is_another, 'another mapper')

    # What must hold.

    def answered(self):
        """When a lookup is answered."""
        def is_answered():
            with contextlib.suppress(OSError):
                return self.mapper.request(b'zsoak0') != b''
        harness.wait_until(is_answered, 'an answer')
        return time.monotonic()

    def check(self):
        # S-1 before anybody comes back: it is the registry that must not forget.
        found = self.listed()
        for name, node in self.nodes.items():
            if found.get(name) != (node.port, node.creation):
                raise AssertionError(f'S-1: {name!r} is {found.get(name)} instead of {(node.port, node.creation)}')
        for node in self.nodes.values():
            lost = node.lost
            node.come_back()
            self.reconnections += node.lost - lost
        names = self.mapper.names()
        if len(names) != len(dict(names)):
            raise AssertionError(f'S-2: names twice: {sorted(names)}')
        found = dict(names)
        for name, node in self.nodes.items():
            if found.get(name) != node.port:
                raise AssertionError(f'S-1: {name!r} is listed as {found.get(name)} instead of {node.port}')
        for name in self.left:
            self.mapper.wait_gone(name)
        self.left.clear()
        harness.wait_until(lambda: len(self.mapper.family()) == 2, lambda: f'S-4: two processes: {self.mapper.family()}')
        if os.path.getsize(self.mapper.registry) > self.registry_size_max:
            raise AssertionError(f'S-4: the registry has {os.path.getsize(self.mapper.registry)} bytes')
        harness.wait_until(lambda: self.descriptors() <= 2 * len(self.nodes) + DESCRIPTORS_BESIDES_NODES_MAX,
                           lambda: f'S-4: {self.descriptors()} descriptors for {len(self.nodes)} nodes')
        self.resident.append(sum(harness.resident_kib(pid) for pid in self.mapper.family()))
        if len(self.resident) > EVENTS_BEFORE_MEMORY and not harness.INSTRUMENTED and \
                self.resident[-1] > max(self.resident[:EVENTS_BEFORE_MEMORY]) + RESIDENT_GROWTH_KIB_MAX:
            raise AssertionError(f'S-4: memory grows: {self.resident[::max(1, len(self.resident) // 50)]} KiB')

    def listed(self):
        return creations(self.mapper)

    def descriptors(self):
        return sum(hostile.descriptors(pid) for pid in self.mapper.family())

    def report(self):
        lines = [f'seed {self.seed}: {sum(self.counts.values())} events in {self.lasted_s:.0f} s: ' +
                 ', '.join(f'{count} {event}' for event, count in self.counts.most_common()),
                 'registrations lost: 0; connections lost, registered again with the same creation: '
                 f'{self.reconnections}',
                 'longest until lookups were answered, ms (what the event itself takes included): ' +
                 ', '.join(f'{event} {longest:.0f}' for event, longest in sorted(self.longest_ms.items())),
                 f'resident KiB of both processes: {self.resident[0]} at first, {max(self.resident)} at most, '
                 f'{self.resident[-1]} at last']
        return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description='Lets all that can happen to a mapper happen to it, at random.')
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument('--nodes', type=int, default=100)
    options = parser.parse_args()
    print(f'seed {options.seed}', flush=True)
    soak = Soak(options.seconds, options.seed, options.nodes)
    signal.signal(signal.SIGTERM, lambda *_: setattr(soak, 'is_to_end', True))
    try:
        print(soak.run().report())
    except Exception as error:
        print(f'FAILED: {error}\nseed {options.seed}')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
