"""Attacks a mapper in many ways at once, and measures what well-behaved clients notice of it.

usage: hostile.py [--stock] [--apart] [--seconds N] [--seed N] [--attacks NAME,...] [--capacity N]

    export PYTHONPATH=tests EPMD=build-release/daemon/epmd
    python3 tests/trust/hostile.py --seconds 30          # the mapper under test
    python3 tests/trust/hostile.py --seconds 30 --stock  # the stock epmd, to compare

As root it plays in two network namespaces of its own, and some attacks come from another host; else on loopback, without
these. Each attack is a process. Ends with exit code 1 when something acknowledged was lost, an answer was wrong, or
(not with --stock) descriptors or memory did not come back to where they were. Times are printed and judged by nobody.

Attackers and well-behaved clients are other hosts in truth, with cores of their own. --apart comes near to that (as root): the
mapper has one core, with the weight that its unit gives it (CPUWeight=), the attackers another, and there the clients run before
them, as soon as they have something to do. Without it all compete for all cores, and times are above all those of the scheduler.
What clients notice that is not the mapper's doing shows at a bystander: another mapper on the same core, before everything else
there, that nobody attacks, and that the same clients ask in turn.
"""

import argparse
import collections
import contextlib
import ctypes
import errno
import itertools
import math
import multiprocessing
import os
import random
import select
import socket
import struct
import sys
import time
import unittest

import harness
from harness import alive2_body, epmdctl, frame, network

SPAWN = multiprocessing.get_context('spawn')
STEADY_NODES = 50
OPEN_MAX = 300  # connections that one attack holds at a time
# 255 code points of 4 bytes.
LARGEST_NAME = '😀'.encode() * harness.NAME_CODE_POINTS_MAX
RESIDENT_GROWTH_KIB_MAX = 16 * 1024
DESCRIPTORS_GROWTH_MAX = 8
# A registry with as many buckets as names: longer chains have a probability below 1e-9 with any keyed hash.
CHAIN_MAX = 16
CLIENT_TIMEOUT_S = harness.PATIENCE_S

CLIENT_PAUSE_S = 0.001  # between two turns, --apart
# What CPUWeight=1000 is where sessions share the CPU (sched(7), autogroup): 1.25 to the power of it, as often as others.
MAPPER_NICE = -10

# What a process is told of the place where the mapper is. peers_core: of all that are not the mapper (--apart); None: any.
# bystander_port: of a mapper that nobody attacks; None: there is none.
Arena = collections.namedtuple('Arena', 'port foreign_host server_namespace client_namespace peers_core bystander_port',
                               defaults=(None,))


def enter(namespace):
    """Moves this process into a network namespace, given as a path; None: stays."""
    if namespace is None:
        return
    with open(namespace) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), network.CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')


def have_sessions_weights():
    """Whether sessions share the CPU by a weight: not if groups of the cgroup controller do, but for the root group."""
    with contextlib.suppress(OSError):
        with open('/proc/sys/kernel/sched_autogroup_enabled') as file, open('/proc/self/cgroup') as cgroup:
            own = [line.strip().split(':', 2) for line in cgroup]
            return file.read().strip() == '1' and all(path == '/' for _, controllers, path in own
                                                      if controllers == '' or 'cpu' in controllers.split(','))
    return False


def come_first():
    """This process and what it starts run on their core before all others, as soon as they have something to do."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def become_heavy():
    """This process and what it starts share the CPU with others as the service epmd does."""
    os.setsid()
    with open('/proc/self/autogroup', 'w') as file:
        file.write(str(MAPPER_NICE))


# ---------------------------------------------------------------------------------------------- attacks
#
# Each is called over and over, with what it keeps between calls, until the attack is over. What goes wrong for it is its own
# affair: refused, reset and closed is what it has earned.

class Attack:

    from_outside = False

    def __init__(self, arena, rng):
        self.arena = arena
        self.rng = rng
        self.host = arena.foreign_host if self.from_outside else harness.HOST
        self.open = collections.deque()
        self.done = 0

    def connect(self, source=None, receive_buffer=None, host=None):
        connection = socket.socket()
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                connection.bind((source, 0))
            connection.settimeout(2)
            connection.connect((host or self.host, self.arena.port))
        except BaseException:
            connection.close()
            raise
        return connection

    def any_source(self):
        return '127.%d.%d.%d' % (self.rng.randrange(1, 255), self.rng.randrange(256), self.rng.randrange(1, 255))

    def keep(self, connection, most=OPEN_MAX):
        self.open.append(connection)
        while len(self.open) > most:
            harness.reset(self.open.popleft())

    def step(self):
        raise NotImplementedError

    def end(self):
        for connection in self.open:
            connection.close()


class SlowReaders(Attack):
    """Ask for NAMES and DUMP, and read a few bytes now and then."""

    def step(self):
        connection = self.connect(self.any_source(), receive_buffer=2048)
        connection.sendall(frame(self.rng.choice([b'n', b'd'])))
        self.keep(connection)
        for reader in self.rng.sample(list(self.open), min(3, len(self.open))):
            reader.setblocking(False)
            with contextlib.suppress(OSError):
                reader.recv(16)


class SlowWriters(Attack):
    """Send a byte now and then of requests that never end."""

    def step(self):
        connection = self.connect(self.any_source())
        connection.sendall(frame(b'z' + b'a' * 900)[:3])
        self.keep(connection)
        for writer in self.rng.sample(list(self.open), min(10, len(self.open))):
            with contextlib.suppress(OSError):
                writer.sendall(b'a')


class Silent(Attack):
    """Connect and say nothing, or half of a request."""

    def step(self):
        connection = self.connect(self.any_source())
        request = frame(self.rng.choice([b'n', b'z' + b'b' * 50, alive2_body(b'half', extra=b'e' * 100)]))
        connection.sendall(request[:self.rng.randrange(len(request))])
        self.keep(connection, 1000)


class Resets(Attack):
    """RST at each point: after connecting, in a request, before, in and after a reply, as a node."""

    def step(self):
        connection = self.connect()
        whole = frame(self.rng.choice([b'n', b'd', b'zsteady1', alive2_body(b'reset%d' % self.rng.randrange(100))]))
        connection.sendall(whole[:self.rng.randrange(len(whole) + 1)])
        if self.rng.random() < 0.3:
            connection.settimeout(0.01)
            with contextlib.suppress(OSError):
                connection.recv(self.rng.choice([1, 4, 10000]))
        harness.reset(connection)


class FloodFromOne(Attack):
    """As many connections as can be made from one address, each closed at once."""

    def step(self):
        harness.reset(self.connect('127.200.0.1'))


class FloodFromMany(Attack):
    """The same, each from another address."""

    def step(self):
        harness.reset(self.connect(self.any_source()))


class Largest(Attack):
    """The largest requests: names and extras of 1,020 bytes, frames of the largest size, registered and looked up."""

    def step(self):
        name = LARGEST_NAME[:-4] + chr(ord('😀') + self.rng.randrange(50)).encode()
        connection = self.connect()
        connection.sendall(frame(alive2_body(name, extra=b'E' * harness.NAME_SIZE_MAX)))
        self.keep(connection, 50)
        for body in (b'z' + name, b'z' + b'a' * (harness.BODY_SIZE_MAX - 1), b'x' * harness.BODY_SIZE_MAX):
            with self.connect() as other:
                other.sendall(frame(body))
                harness.receive_all(other)


class NamesStorm(Attack):
    """NAMES and DUMP, as fast as they come."""

    def step(self):
        with self.connect() as connection:
            connection.sendall(frame(self.rng.choice([b'n', b'n', b'n', b'd'])))
            harness.receive_all(connection)


class RegistrationSpam(Attack):
    """Registers names until it is refused, then lets all go, and again."""

    most = 20000

    def step(self):
        connection = self.connect()
        connection.sendall(frame(alive2_body(b'spam%d' % len(self.open))))
        reply = harness.receive_alive2_reply(connection)
        self.open.append(connection)
        if reply[:2] != b'v\0' or len(self.open) >= self.most:
            while self.open:
                self.open.pop().close()


class NamesThatCollide(Attack):
    """Names that are equal under multiply-and-add hashes (times 33, times 31), as unkeyed tables use them."""

    most = 512

    def step(self):
        if not self.open:
            for name in itertools.islice(colliding_names(), self.most):
                connection = self.connect()
                connection.sendall(frame(alive2_body(name)))
                harness.receive_alive2_reply(connection)
                self.open.append(connection)
        with self.connect() as connection:
            connection.sendall(frame(b'z' + next(itertools.islice(colliding_names(), self.rng.randrange(self.most), None))))
            harness.receive_all(connection)


class PortScan(Attack):
    """Knocks at the mapper's port and its neighbours, and speaks other protocols to it."""

    def step(self):
        for port in (self.arena.port - 1, self.arena.port + 1):
            with socket.socket() as knock:
                knock.connect_ex((self.host, port))
        with self.connect() as connection:
            connection.sendall(self.rng.choice([b'', b'GET / HTTP/1.0\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00', b'SSH-2.0-x\r\n',
                                                b'\0' * 64, b'\xff' * 64]))
            connection.settimeout(0.02)
            with contextlib.suppress(OSError):
                connection.recv(100)


class CommandsFromOutside(Attack):
    """KILL, STOP, DUMP and registrations from another host: all closed without a reply."""

    from_outside = True

    def step(self):
        body = self.rng.choice([b'k', b'd', b'ssteady1', alive2_body(b'foreign'), alive2_body(b'steady1')])
        with self.connect() as connection:
            connection.sendall(frame(body))
            received = harness.receive_all(connection)
            if received:
                raise AssertionError(f'{body!r} from another host was answered: {received!r}')


class FloodFromOutside(Attack):
    """More open requests from another host than one source may have."""

    from_outside = True

    def step(self):
        self.keep(self.connect(), 1200)


class HalfOpen(Attack):
    """SYN from addresses that never answer."""

    from_outside = True

    def step(self):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for _ in range(64):
                source = socket.inet_aton('10.231.77.%d' % self.rng.randrange(10, 250))
                destination = socket.inet_aton(self.host)
                segment = struct.pack('>HHIIBBHHH', self.rng.randrange(1024, 65536), self.arena.port, self.rng.getrandbits(32), 0,
                                      5 << 4, 2, 65535, 0, 0)
                checksum = ones_complement_sum(source + destination + struct.pack('>BBH', 0, 6, len(segment)) + segment)
                segment = segment[:16] + struct.pack('>H', checksum) + segment[18:]
                header = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + source + destination
                raw.sendto(header + segment, (self.host, 0))
        time.sleep(0.01)


def ones_complement_sum(data):
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def colliding_names():
    """1,024 names with one hash for 33 * h + c, and as many with one for 31 * h + c."""
    for first, second in ((b'Ez', b'FY'), (b'Aa', b'BB')):
        for blocks in itertools.product((first, second), repeat=10):
            yield b''.join(blocks)


ATTACKS = {attack.__name__: attack for attack in (
    SlowReaders, SlowWriters, Silent, Resets, FloodFromOne, FloodFromMany, Largest, NamesStorm, RegistrationSpam,
    NamesThatCollide, PortScan, CommandsFromOutside, FloodFromOutside, HalfOpen)}


def attack_process(name, arena, seed, ended, results):
    # What one attack may open, it may lack descriptors for: that is part of the attack.
    harness.raise_descriptor_limit()
    kind = ATTACKS[name]
    if arena.peers_core is not None:
        os.sched_setaffinity(0, {arena.peers_core})
    enter(arena.client_namespace if kind.from_outside else arena.server_namespace)
    attack = kind(arena, random.Random(f'{name} {seed}'))
    failure = None
    while not ended.is_set():
        try:
            attack.step()
            attack.done += 1
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.EADDRNOTAVAIL):
                attack.end()
                attack.open.clear()
            ended.wait(0.001)
        except AssertionError as error:
            failure = str(error)
            break
    attack.end()
    results.put((name, attack.done, failure))


class Attacks:
    """All of them, while inside `with`. done: {attack: number of steps}; failures: what they got that they should not."""

    def __init__(self, arena, seed, names=None):
        chosen = [name for name in names or ATTACKS
                  if arena.client_namespace is not None or not ATTACKS[name].from_outside]
        self.done = {}
        self.failures = []
        self._ended = SPAWN.Event()
        self._results = SPAWN.Queue()
        self._processes = [SPAWN.Process(target=attack_process, args=(name, arena, seed, self._ended, self._results), daemon=True)
                           for name in chosen]

    def __enter__(self):
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for _ in self._processes:
            name, done, failure = self._results.get(timeout=120)
            self.done[name] = done
            if failure:
                self.failures.append(f'{name}: {failure}')
        for process in self._processes:
            process.join()


# ---------------------------------------------------------------------------------------------- well-behaved clients

def client_process(arena, steady, full_is_fine, ended, results):
    """Looks up, registers, leaves and lists in turn: how long each took, and what was wrong."""
    enter(arena.server_namespace)
    if arena.peers_core is not None:
        os.sched_setaffinity(0, {arena.peers_core})
        come_first()
    client = harness.Client(arena.port)
    client.connect = lambda: harness.Client.connect(client, timeout_s=CLIENT_TIMEOUT_S)
    bystander = harness.Client(arena.bystander_port)
    rng = random.Random(1)
    times = {'lookup': [], 'register': [], 'names': [], 'bystander': []}
    wrong = []
    unanswered = collections.Counter()
    turn = 0

    def timed(kind, call):
        started = time.monotonic()
        try:
            return call()
        except OSError as error:
            unanswered[f'{kind}: {type(error).__name__}'] += 1
            return None
        finally:
            times[kind].append(time.monotonic() - started)

    while not ended.is_set():
        turn += 1
        if arena.peers_core is not None:
            time.sleep(CLIENT_PAUSE_S)
        name = rng.choice(list(steady))
        reply = timed('lookup', lambda n=name: client.request(b'z' + n))
        if reply == b'':
            unanswered['lookup: closed'] += 1
        elif reply is not None and (reply[:2] != b'w\0' or reply[2:4] != struct.pack('>H', steady[name])):
            wrong.append(f'lookup of {name!r}: {reply!r}')
        if arena.bystander_port is not None:
            timed('bystander', lambda: bystander.request(b'znobody'))
        if turn % 5 == 0:
            own = b'well-behaved%d' % (turn % 7)
            made = timed('register', lambda o=own: client.alive2(o, port=turn % 60000 + 1))
            if made is not None:
                connection, reply = made
                with connection:
                    if reply == b'':
                        unanswered['register: closed'] += 1
                    elif harness.alive2_result(reply)[0] == 0:
                        found = timed('lookup', lambda o=own: client.request(b'z' + o))
                        if found == b'':
                            unanswered['lookup: closed'] += 1
                        elif found is not None and found[:4] != struct.pack('>BBH', ord('w'), 0, turn % 60000 + 1):
                            wrong.append(f'{own!r} was acknowledged, and then {found!r}')
                    elif full_is_fine:
                        unanswered['register: the registry is full'] += 1
                    else:
                        wrong.append(f'{own!r} was refused')
        if turn % 50 == 0:
            listed = timed('names', lambda: client.request(b'n'))
            if listed == b'':
                unanswered['names: closed'] += 1
            elif listed is not None:
                for name, port in steady.items():
                    if b'name %b at port %d\n' % (name, port) not in listed:
                        wrong.append(f'{name!r} is not among the names')
        if len(wrong) > 20:
            break
    results.put((times, wrong, dict(unanswered)))


class Clients:
    """A well-behaved client in a process of its own, while inside `with`. times, wrong, unanswered: see client_process()."""

    def __init__(self, arena, steady, full_is_fine=False):
        self._ended = SPAWN.Event()
        self._results = SPAWN.Queue()
        self._process = SPAWN.Process(target=client_process, args=(arena, steady, full_is_fine, self._ended, self._results),
                                      daemon=True)

    def __enter__(self):
        self._process.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.times, self.wrong, self.unanswered = self._results.get(timeout=300)
        self._process.join()


def at(times, share):
    """A quantile in ms; None when there is nothing."""
    ordered = sorted(times)
    return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else math.nan


# ---------------------------------------------------------------------------------------------- the registry

def chain_lengths(path):
    """How many records hang on each bucket of a registry that nobody changes meanwhile (registry/layout.h)."""
    with open(path, 'rb') as file:
        header = file.read(4096)
        extents_at, capacity, buckets = struct.unpack_from('<QII', header, 16)
        buckets_at, extent_size = struct.unpack_from('<QI', header, 48)
        # Where the records of each extent of records begin.
        places = []
        for at in range(extents_at, os.path.getsize(path) - extent_size + 1, extent_size):
            file.seek(at)
            if struct.unpack('<Q', file.read(8))[0] == 1:
                places.append(at + 4096)
        file.seek(buckets_at)
        heads = struct.unpack(f'<{buckets}Q', file.read(8 * buckets))
        lengths = []
        for link in heads:
            length = 0
            while link >> 32 and length <= capacity:
                length += 1
                extent, record = divmod((link >> 32) - 1, 256)
                file.seek(places[extent] + record * 256 + 8)
                link, = struct.unpack('<Q', file.read(8))
            lengths.append(length)
    return lengths


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


# ---------------------------------------------------------------------------------------------- the play

class Play:
    """One mapper, some nodes, and rounds of calm and attack. failures: what must not be."""

    def __init__(self, stock=False, seconds=20.0, seed=1, names=None, capacity=4096, rounds=2, apart=False):
        self.stock = stock
        self.apart = apart
        self.seconds = seconds
        self.seed = seed
        self.names = names
        self.capacity = capacity
        self.rounds = rounds
        self.failures = []
        self.figures = {}

    def run(self):
        with contextlib.ExitStack() as stack:
            hosts = None
            if os.geteuid() == 0:
                with contextlib.suppress(unittest.SkipTest):
                    hosts = stack.enter_context(harness.TwoHosts())
            address = harness.HOST + (',' + hosts.server_address if hosts else '')
            mapper = harness.Mapper(args=[] if self.stock else ['-capacity', str(self.capacity), '-packet_timeout', '5'],
                                    stock=self.stock, address=address, prefix=hosts.server_prefix if hosts else (),
                                    before_exec=become_heavy if self.apart else None)
            stack.callback(mapper.close)
            # nsenter becomes the mapper, so that .pid is the mapper's.
            stack.enter_context(hosts.on_server() if hosts else contextlib.nullcontext())
            peers_core = None
            if self.apart:
                mapper_core, peers_core, *_ = sorted(os.sched_getaffinity(0))
                os.sched_setaffinity(0, {mapper_core})
            mapper.start()
            bystander = None
            if self.apart:
                bystander = harness.Mapper(before_exec=come_first)
                stack.callback(bystander.close)
                bystander.start()
                # What this process starts from here on is not even started on the mapper's core.
                os.sched_setaffinity(0, {peers_core})
            namespaces = [f'/proc/{holder.pid}/ns/net' for holder in hosts._holders] if hosts else [None, None]
            arena = Arena(mapper.port, hosts.server_address if hosts else None, *namespaces, peers_core,
                          bystander and bystander.port)
            self._play(mapper, arena)
        return self

    def _play(self, mapper, arena):
        steady = {b'steady%d' % number: 5000 + number for number in range(STEADY_NODES)}
        nodes = {name: mapper.register(name, port=port) for name, port in steady.items()}
        creations = {name: creation for name, (_, creation) in nodes.items()}
        try:
            with Clients(arena, steady) as calm:
                time.sleep(self.seconds / 3)
            self._note('undisturbed', calm)
            resident = []
            before = descriptors(mapper.pid)
            for number in range(self.rounds):
                with Clients(arena, steady, full_is_fine=True) as clients, \
                        Attacks(arena, self.seed + number, self.names) as attacks:
                    time.sleep(self.seconds / self.rounds)
                self._note(f'attack {number + 1}', clients)
                self.failures += attacks.failures
                print('  steps: ' + ', '.join(f'{name} {done}' for name, done in sorted(attacks.done.items())), flush=True)
                if not self.stock:
                    self._wait_for_calm(mapper, before)
                resident.append(harness.resident_kib(mapper.pid) if mapper.alive() else 0)
            self._check_nodes(mapper, nodes, steady)
            if not self.stock:
                self._check_registry(mapper, creations)
            print(f'  descriptors {before} before, {descriptors(mapper.pid)} after; resident KiB after each round: {resident}')
            if not self.stock and not harness.INSTRUMENTED and resident[-1] - resident[0] > RESIDENT_GROWTH_KIB_MAX:
                self.failures.append(f'memory grows: {resident} KiB')
            for request in ('lookup', 'bystander') if self.apart else ('lookup',):
                for share, name in ((.5, 'p50'), (.99, 'p99')):
                    before = at(calm.times[request], share)
                    under = max(figures[request][name] for kind, figures in self.figures.items() if kind.startswith('attack'))
                    print(f'{request} {name}: {before:.3f} ms undisturbed, {under:.3f} ms under attack, {under / before:.1f} times')
        finally:
            for connection, _ in nodes.values():
                connection.close()

    def _note(self, kind, clients):
        self.figures[kind] = {request: {'p50': at(times, .5), 'p99': at(times, .99)} for request, times in clients.times.items()}
        print(f'{kind}: ' + '; '.join(
            f'{request}: {len(times)}, ms: p50 {at(times, .5):.3f}, p99 {at(times, .99):.3f}, max {at(times, 1):.1f}'
            for request, times in clients.times.items() if times) + f'; not answered: {clients.unanswered}', flush=True)
        self.failures += clients.wrong
        # Lookups are answered, whatever others do (P7); a full table may refuse registrations only.
        if kind == 'undisturbed' or not self.stock:
            self.failures += [f'{kind}: {what} {count} times' for what, count in clients.unanswered.items()
                              if not what.startswith('register')]

    def _wait_for_calm(self, mapper, before):
        try:
            harness.wait_until(lambda: descriptors(mapper.pid) <= before + DESCRIPTORS_GROWTH_MAX, 'descriptors')
            harness.wait_until(lambda: len(mapper.names()) == STEADY_NODES, 'names')
        except AssertionError as error:
            self.failures.append(f'not back to where it was ({error}): {descriptors(mapper.pid)} descriptors after {before}, '
                                 f'names {[name for name, _ in mapper.names()][:60]}')

    def _check_nodes(self, mapper, nodes, steady):
        lost = []
        for name, (connection, _) in nodes.items():
            if select.select([connection], [], [], 0)[0]:
                lost.append(f'{name!r}: its connection was closed')
                continue
            try:
                found = mapper.lookup(name)
            except (OSError, AssertionError) as error:
                found = repr(error)
            if getattr(found, 'port', None) != steady[name]:
                lost.append(f'{name!r}: {found}')
        print(f'  {len(lost)} of {len(nodes)} nodes lost')
        self.failures += lost

    def _check_registry(self, mapper, creations):
        lengths = chain_lengths(mapper.registry)
        print(f'  {sum(lengths)} names on {len(lengths)} chains, the longest has {max(lengths)}')
        if max(lengths) > CHAIN_MAX:
            self.failures.append(f'a chain of {max(lengths)} names')
        if os.path.exists(harness.EPMDCTL):
            found = {name: creation for name, (_, creation) in epmdctl.creations(mapper).items()}
            self.failures += [f'{name!r}: creation {found.get(name)} instead of {creation}'
                              for name, creation in creations.items() if found.get(name) != creation]


def main():
    parser = argparse.ArgumentParser(description='Attacks a mapper, and measures what well-behaved clients notice.')
    parser.add_argument('--stock', action='store_true', help='attack the stock epmd')
    parser.add_argument('--apart', action='store_true', help='the mapper on a core of its own (as root)')
    parser.add_argument('--seconds', type=float, default=20)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--attacks', help='comma-separated: ' + ', '.join(ATTACKS))
    parser.add_argument('--capacity', type=int, default=4096, help='names that the registry holds')
    options = parser.parse_args()
    if options.apart and (os.geteuid() != 0 or len(os.sched_getaffinity(0)) < 2 or not have_sessions_weights()):
        parser.error('--apart takes root, two cores, and sched_autogroup_enabled outside of control groups')
    harness.raise_descriptor_limit()
    play = Play(options.stock, options.seconds, options.seed, options.attacks and options.attacks.split(','),
                options.capacity, apart=options.apart).run()
    for failure in play.failures[:30]:
        print('FAILED ' + failure)
    print(f'seed {options.seed}: {len(play.failures)} failures')
    return 1 if play.failures else 0


if __name__ == '__main__':
    sys.exit(main())
