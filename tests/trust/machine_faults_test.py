"""The machine fails: system calls return errors, descriptors and memory run out, processes stand still, the clock jumps.

The mapper either goes on serving right, or ends with one clear line; nodes that are registered stay (P5). Errors of system calls and
of operations of a ring are injected by tests/preload/inject_faults.c.
"""

import contextlib
import errno
import os
import random
import resource
import signal
import struct
import sys
import time
import unittest

import harness
from harness import Kept, Mapper, load, seccomp
from harness.epmdctl import creations, status
from harness.faults import INJECT, RING_SERVING, SEED, SERVING, STEADY, Switch

TESTS = os.path.join(harness.ROOT, 'tests')
STARTS = int(os.environ.get('STARTS', '3'))  # of a mapper under each fault
# Not a part of them in quick runs: what the mapper calls now and then fails too seldom in fewer.
ROUNDS = int(os.environ.get('ROUNDS', '300'))
STANDSTILL_SECONDS = int(os.environ.get('STANDSTILL_SECONDS', '2'))
HOUR_S = 3600

# What may make a request be closed without its reply, or a registration be refused; nothing may make an answer wrong.
MAY_REFUSE = {'fallocate64', 'getsockopt', 'fcntl64', 'dup'}
MAY_CLOSE = {('getsockopt', errno.ENOBUFS)}

# Of 1,000 calls as many fail: of those for each request, and of what the main thread calls now and then.
PER_MILLE_OF_FREQUENT = 150
PER_MILLE_OF_RARE = 500
NOTICED_S = 0.012  # after which the main thread has seen a registration: kGatherMs and two ticks
WAITING = 5  # clients that are not accepted at once
FREQUENT = {'accept4', 'recv', 'send', 'epoll_ctl', 'epoll_wait', 'getsockopt', *RING_SERVING}
ALWAYS_CALLED = {'accept4', 'recv', 'send', 'epoll_ctl', 'epoll_wait', 'poll', 'sendmsg', *RING_SERVING}
RING_STARTING = {
    'ring_init': (errno.ENOSYS, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINVAL, errno.EAGAIN),
    'ring_probe': (errno.EPERM, errno.EINVAL, errno.ENOMEM),
}

STARTING = {
    'socket': (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EACCES),
    'bind': (errno.EACCES, errno.ENOMEM, errno.EADDRNOTAVAIL),
    'listen': (errno.EADDRINUSE, errno.ENOBUFS),
    'setsockopt': (errno.ENOPROTOOPT, errno.ENOMEM),
    'epoll_create1': (errno.EMFILE, errno.ENOMEM),
    'epoll_ctl': (errno.ENOMEM, errno.ENOSPC),
    'eventfd': (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    'signalfd': (errno.EMFILE, errno.ENOMEM),
    'mmap64': (errno.ENOMEM, errno.EACCES, errno.ENODEV),
    'fallocate64': (errno.ENOSPC, errno.EINTR, errno.EIO, errno.EOPNOTSUPP),
    'ftruncate64': (errno.ENOSPC, errno.EIO, errno.EFBIG),
    'open64': (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO),
    'openat64': (errno.EMFILE, errno.EACCES, errno.EROFS, errno.ENOSPC),
    'linkat': (errno.ENOSPC, errno.EACCES, errno.EMLINK),
    'fchmod': (errno.EPERM,),
    'fcntl64': (errno.ENOLCK, errno.EMFILE),
    'getsockopt': (errno.ENOBUFS,),
    'dup': (errno.EMFILE,),
    'fork': (errno.EAGAIN, errno.ENOMEM),
    'socketpair': (errno.EMFILE, errno.ENOMEM),
    'pidfd_open': (errno.EMFILE, errno.ENOMEM),
}


class FaultCase(unittest.TestCase):

    def switch(self, plan, seed=SEED):
        switch = Switch(plan, seed)
        self.addCleanup(switch.close)
        return switch

    def serve(self, mapper_type=Mapper, switch=None, args=(), loop='epoll', **options):
        mapper = mapper_type(loop=loop, args=['-workers', '2', *args], env=switch.environment if switch else {}, **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def steady(self, mapper):
        nodes = {b'steady%d' % number: 5000 + number for number in range(STEADY)}
        for name, port in nodes.items():
            connection, _ = mapper.register(name, port=port)
            self.addCleanup(connection.close)
        return nodes

    def client_of(self, mapper):
        """Somebody whom it answers. Of the loopback addresses, which it always listens on, a host may lack one."""
        for host in (harness.HOST, '::1'):
            client = harness.Client(mapper.port, host)
            with contextlib.suppress(OSError):
                if client.request(b'n'):
                    return client
        return None

    def fate(self, mapper):
        if not mapper.alive():
            return 'ended'
        return 'served' if self.client_of(mapper) is not None else None

    def check_kept(self, mapper, before):
        after = creations(mapper)
        self.assertEqual({name: after.get(name) for name in before}, before, mapper.log()[-2000:])


def clients(mapper, nodes, rng, rounds, may_close=False, may_refuse=False, may_not_acknowledge=False, some_stay_s=0):
    """Lookups and registrations, of which some stay for a moment; yields what is wrong."""
    for number in range(rounds):
        name = rng.choice(list(nodes))
        reply = mapper.request(b'z' + name)
        if reply[2:4] != struct.pack('>H', nodes[name]) and not (reply == b'' and may_close):
            yield f'lookup of {name!r}: {reply!r}'
        if number % 5 == 0:
            connection, reply = mapper.alive2(b'passing%d' % number, port=number + 1)
            with connection:
                if reply == b'':
                    if not may_close and not may_not_acknowledge:
                        yield f'registration {number}: closed'
                elif harness.alive2_result(reply)[0] == 0:
                    found = mapper.request(b'zpassing%d' % number)
                    if found[2:4] != struct.pack('>H', number + 1) and not (found == b'' and may_close):
                        yield f'registration {number}: acknowledged, then {found!r}'
                    if number % 10 == 0:
                        time.sleep(some_stay_s)
                elif not may_refuse:
                    yield f'registration {number}: refused'


@harness.ours_only
@unittest.skipIf(INJECT is None, 'INJECT_FAULTS, the path of inject_faults.c as a library, is not set')
@unittest.skipIf(harness.INSTRUMENTED, 'a sanitizer wants to be loaded first')
class InjectedTest(FaultCase):

    def setUp(self):
        # The loader only warns.
        self.assertTrue(os.path.exists(INJECT), INJECT)

    def test_while_serving(self):
        self.check_serving('epoll', SERVING)

    def test_ring_while_serving(self):
        self.check_serving('io_uring', RING_SERVING)

    def check_serving(self, loop, calls):
        total = {}
        for call, errors in calls.items():
            for error in errors:
                with self.subTest(call=call, error=errno.errorcode[error]):
                    per_mille = PER_MILLE_OF_FREQUENT if call in FREQUENT else PER_MILLE_OF_RARE
                    switch = self.switch([(call, error, per_mille)])
                    mapper = self.serve(Kept, switch, loop=loop)
                    nodes = self.steady(mapper)
                    before = creations(mapper)
                    family = mapper.family()
                    with switch:
                        wrong = list(clients(mapper, nodes, random.Random(SEED), ROUNDS, (call, error) in MAY_CLOSE,
                                             call in MAY_REFUSE, call == 'send', 0 if call in FREQUENT else NOTICED_S))
                    self.assertEqual(wrong, [], mapper.log()[-2000:])
                    self.check_kept(mapper, before)
                    self.assertEqual(mapper.family(), family, mapper.log()[-2000:])
                    self.assertLess(len(mapper.log().splitlines()), 40, mapper.log())
                    if call in ALWAYS_CALLED:
                        self.assertGreater(switch.injected, 0)
                    total[f'{call} {errno.errorcode[error]}'] = switch.injected
                    # All are still watched: who leaves is gone.
                    for number in range(0, ROUNDS, 5):
                        mapper.wait_gone(b'passing%d' % number)
                    mapper.close()
        print('\ninjected while serving: ' + ', '.join(f'{what} {count}' for what, count in total.items()))

    def test_no_descriptors_to_store_with(self):
        """What cannot be stored for want of a descriptor is stored when there is one."""
        switch = self.switch([('fcntl64', errno.EMFILE, 1000)])
        mapper = self.serve(Kept, switch)
        with switch:
            self.steady(mapper)
            harness.wait_until(lambda: 'are stored late: Too many open files' in mapper.log(), mapper.log)
            self.assertEqual(status(mapper)['counters']['stored'], 0)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] == STEADY, lambda: f'all are stored: {mapper.log()}')
        before = creations(mapper)
        pid = mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: mapper.mapper_pid() not in (0, pid), lambda: f'another mapper: {mapper.log()}')
        self.check_kept(mapper, before)
        self.assertEqual(status(mapper)['orphaned'], 0)

    def test_nothing_can_be_watched(self):
        """fs.epoll.max_user_watches is reached by others: who waits is served all the same, and whose time is over is ended."""
        switch = self.switch([('epoll_ctl', errno.ENOSPC, 1000)])
        mapper = self.serve(Kept, switch, args=['-packet_timeout', '3'])
        nodes = self.steady(mapper)
        with switch:
            leaving, _ = mapper.register(b'leaving', port=4711)
            slow, silent = mapper.connect(), mapper.connect()
            request = harness.frame(b'zsteady3')
            slow.sendall(request[:4])
            time.sleep(0.1)
            slow.sendall(request[4:])
            self.assertEqual(harness.receive_all(slow)[2:4], struct.pack('>H', nodes[b'steady3']))
            leaving.close()
            mapper.wait_gone(b'leaving')
            self.assertEqual(harness.receive_all(silent), b'')
            slow.close()
            silent.close()
            self.assertGreater(switch.injected, 0)
        harness.wait_until(lambda: status(mapper)['connections'] == STEADY, 'all others are closed')

    def test_all_at_once(self):
        for loop, calls in (('epoll', SERVING), ('io_uring', {**SERVING, **RING_SERVING})):
            with self.subTest(loop=loop):
                plan = [(call, error, 10) for call, errors in calls.items() for error in errors if call not in MAY_REFUSE]
                switch = self.switch(plan)
                mapper = self.serve(Kept, switch, loop=loop)
                nodes = self.steady(mapper)
                before = creations(mapper)
                with switch:
                    wrong = list(clients(mapper, nodes, random.Random(SEED), 5 * ROUNDS, may_not_acknowledge=True))
                self.assertEqual(wrong, [])
                self.check_kept(mapper, before)
                mapper.close()
                print(f'\n{loop}: {switch.injected} errors of all kinds')

    def test_while_starting(self):
        """It starts and serves, or ends with code 1 and one line that says what is wrong."""
        counts = {'served': 0, 'ended': 0}
        for call, errors in STARTING.items():
            for error in errors:
                for number in range(STARTS):
                    with self.subTest(call=call, error=errno.errorcode[error], number=number):
                        # The first time it always fails, then now and then.
                        switch = self.switch([(call, error, 1000 if number == 0 else 300)], SEED + number)
                        mapper = Mapper(loop='epoll', args=['-workers', '2'], env=switch.environment)
                        self.addCleanup(mapper.close)
                        with switch:
                            mapper.start(answering=False)
                            ended = harness.wait_until(lambda m=mapper: self.fate(m), 'it serves or ends')
                        counts[ended] += 1
                        if ended == 'served':
                            client = self.client_of(mapper)
                            node, _ = client.register(b'node', port=4711)
                            self.assertEqual(client.lookup(b'node').port, 4711)
                            node.close()
                            client.wait_gone(b'node')
                        else:
                            lines = mapper.log().strip().splitlines()
                            # A port that seems taken is no error: erl starts one each time.
                            taken = error == errno.EADDRINUSE
                            self.assertEqual(mapper.wait(), 0 if taken else 1, lines)
                            self.assertLessEqual(len(lines), 1, lines)
                            self.assertTrue(taken or lines, 'not a word')
                        mapper.close()
        print(f'\nstarts under errors: {counts}')

    def test_ring_that_is_refused(self):
        """Any of the workers' rings: it serves through epoll, or, where a ring is demanded, ends with one line."""
        for call, errors in RING_STARTING.items():
            for error in errors:
                for loop in ('auto', 'io_uring'):
                    for number in range(STARTS):
                        with self.subTest(call=call, error=errno.errorcode[error], loop=loop, number=number):
                            switch = self.switch([(call, error, 1000 if number == 0 else 300)], SEED + number)
                            mapper = Mapper(loop=loop, args=['-workers', '4'], env=switch.environment)
                            self.addCleanup(mapper.close)
                            with switch:
                                mapper.start(answering=False)
                                ended = harness.wait_until(lambda m=mapper: self.fate(m), 'it serves or ends')
                            harness.wait_until(mapper.log, 'it says that it serves, or why it does not')
                            lines = mapper.log().splitlines()
                            self.assertEqual(len(lines), 1, lines)
                            if loop == 'auto':
                                self.assertEqual(ended, 'served', lines)
                            if ended == 'ended':
                                self.assertEqual(mapper.wait(), 1, lines)
                            # A single EINVAL, from a kernel that does not know a flag, is no refusal.
                            elif switch.injected > 0 and error != errno.EINVAL:
                                self.assertIn('epoll, because', lines[0])
                            mapper.close()

    def test_ring_upgrades(self):
        """Upgrades and deaths while rings fail, or are refused to the next mapper: nobody is lost."""
        plan = [('ring_accept', errno.EMFILE, 100), ('ring_poll', errno.ENOMEM, 100), ('ring_enter', errno.EAGAIN, 100),
                ('ring_init', errno.ENOMEM, 300)]
        switch = self.switch(plan)
        mapper = self.serve(Kept, switch, loop='auto')
        nodes = self.steady(mapper)
        before = creations(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= STEADY, 'all are stored')
        loops = set()
        with switch:
            for number in range(12):
                pid = mapper.mapper_pid()
                if number % 3 == 2:
                    os.kill(pid, signal.SIGKILL)
                    harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
                else:
                    self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
                loops.add(status(mapper)['loop'])
                self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 20)], [], mapper.log())
                self.check_kept(mapper, before)
        harness.wait_until(lambda: len(mapper.family()) == 2, lambda: f'{mapper.family()} {mapper.log()}')
        print(f'\nupgrades and deaths through {loops}, {switch.injected} errors')

    def test_upgrades(self):
        """An upgrade succeeds, or is rolled back and says why; nobody is lost."""
        succeeded = 0
        attempts = 0
        calls = {'fork': errno.EAGAIN, 'socketpair': errno.EMFILE, 'pidfd_open': errno.EMFILE, 'sendmsg': errno.ENOBUFS,
                 'recvmsg': errno.ENOMEM, 'epoll_create1': errno.EMFILE, 'eventfd': errno.EMFILE, 'mmap64': errno.ENOMEM,
                 'fcntl64': errno.ENOLCK, 'poll': errno.EINTR, 'epoll_ctl': errno.ENOMEM, 'signalfd': errno.EMFILE,
                 'getsockopt': errno.ENOBUFS}
        for call, error in calls.items():
            for per_mille in (1000, 200):
                # Without these nothing can be said to anybody, for as long as they fail.
                if per_mille == 1000 and call in ('sendmsg', 'recvmsg', 'poll', 'epoll_ctl'):
                    continue
                with self.subTest(call=call, per_mille=per_mille):
                    switch = self.switch([(call, error, per_mille)])
                    mapper = self.serve(Kept, switch)
                    nodes = self.steady(mapper)
                    before = creations(mapper)
                    harness.wait_until(lambda m=mapper: status(m)['counters']['stored'] >= STEADY, 'all are stored')
                    with switch:
                        for _ in range(3):
                            done = mapper.upgraded()
                            attempts += 1
                            succeeded += done.returncode == 0
                            if done.returncode != 0:
                                # A keeper that cannot watch the mapper of the upgrade before ends it: perhaps the one that was asked.
                                may_end = call in ('epoll_ctl', 'pidfd_open')
                                ended = 'upgrade failed|has not begun|before it began|does not run'
                                self.assertRegex(done.stderr, ended if may_end else 'upgrade failed')
                    harness.wait_until(lambda m=mapper: status(m)['running'], 'a mapper')
                    self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 20)], [], mapper.log())
                    self.check_kept(mapper, before)
                    self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
                    self.check_kept(mapper, before)
                    harness.wait_until(lambda m=mapper: len(m.family()) == 2, lambda m=mapper: f'{m.family()} {m.log()}')
                    mapper.close()
        print(f'\n{attempts} upgrades under errors, {succeeded} of them done, the others rolled back')

    def with_stored_nodes(self, switch):
        """(a mapper whose keeper has the connections of some nodes, {name: port} and creations of these, the mapper's pid)"""
        mapper = self.serve(Kept, switch)
        nodes = self.steady(mapper)
        harness.wait_until(lambda: status(mapper)['counters']['stored'] >= STEADY, 'all are stored')
        return mapper, nodes, creations(mapper), mapper.mapper_pid()

    def test_keeper_that_cannot_start_a_mapper(self):
        """It tries again: fork, sockets and pidfds come back."""
        for call, error in (('fork', errno.EAGAIN), ('socketpair', errno.EMFILE), ('pidfd_open', errno.EMFILE),
                            ('epoll_ctl', errno.ENOMEM)):
            with self.subTest(call=call):
                switch = self.switch([(call, error, 700)])
                mapper, nodes, before, pid = self.with_stored_nodes(switch)
                with switch:
                    os.kill(pid, signal.SIGKILL)
                    time.sleep(0.5)  # in which it tries, in vain or not
                harness.wait_until(lambda m=mapper: status(m)['running'] and m.mapper_pid() != pid, 'another mapper')
                self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 20)], [])
                self.check_kept(mapper, before)
                harness.wait_until(lambda m=mapper: len(m.family()) == 2, lambda m=mapper: f'{m.family()} {m.log()}')
                mapper.close()

    def test_keeper_that_cannot_be_replaced(self):
        """The mapper tries again, after a pause: it neither starts one after the other nor spins, and in the end all is kept."""
        for call, error in (('fork', errno.EAGAIN), ('epoll_create1', errno.EMFILE)):
            with self.subTest(call=call):
                switch = self.switch([(call, error, 1000)])
                mapper, nodes, before, pid = self.with_stored_nodes(switch)
                with switch:
                    used_s, started = harness.cpu_seconds([pid]), time.monotonic()
                    os.kill(mapper.pid, signal.SIGKILL)
                    mapper.wait()
                    time.sleep(2.5)
                    self.assertLess(harness.cpu_seconds([pid]) - used_s, (time.monotonic() - started) / 2)
                    self.assertIn(mapper.log().count('the keeper has died'), range(1, 5), mapper.log())
                    self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 20)], [])
                harness.wait_until(lambda m=mapper: len(m.family()) == 2 and
                                   status(m)['counters']['stored'] >= 2 * STEADY, lambda m=mapper: f'{m.family()} {m.log()}')
                self.assertEqual(mapper.mapper_pid(), pid)
                os.kill(pid, signal.SIGKILL)
                harness.wait_until(lambda m=mapper: m.mapper_pid() not in (0, pid), 'another mapper')
                self.check_kept(mapper, before)
                self.assertEqual(status(mapper)['orphaned'], 0)
                mapper.close()

    def test_clock_jumps(self):
        """The wall clock goes back and forth by hours and years: creations differ, nothing ends, nothing hangs."""
        switch = self.switch([])
        mapper = self.serve(Kept, switch)
        nodes = self.steady(mapper)
        before = creations(mapper)
        seen = set()
        for jump_s in (0, -HOUR_S, HOUR_S, -24 * HOUR_S, 24 * 365 * HOUR_S, -24 * 365 * HOUR_S, 0):
            switch.set_clock(jump_s)
            connection, creation = mapper.register(b'again')
            connection.close()
            mapper.wait_gone(b'again')
            self.assertNotIn(creation, seen)
            seen.add(creation)
            self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            pid = mapper.mapper_pid()
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda p=pid: status(mapper)['running'] and mapper.mapper_pid() != p, 'another mapper')
            self.check_kept(mapper, before)
        self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 20)], [])


@harness.ours_only
class ShortageTest(FaultCase):

    def test_stands_still(self):
        """Mapper, keeper, or both are stopped for a while: who asks waits, and is answered."""
        mapper = self.serve(Kept)
        self.steady(mapper)
        before = creations(mapper)
        own = mapper.mapper_pid()
        for stopped in ({own}, mapper.family() - {own}, mapper.family()):
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            waiting = mapper.connect()
            waiting.sendall(harness.frame(b'zsteady3'))
            time.sleep(STANDSTILL_SECONDS)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(harness.receive_all(waiting)[2:4], struct.pack('>H', 5003))
            waiting.close()
            self.check_kept(mapper, before)
        self.assertEqual(mapper.mapper_pid(), own)

    @unittest.skipIf(harness.INSTRUMENTED, 'sanitizers need much address space')
    def test_address_space(self):
        """Little memory: it ends with a line, or serves; it is never in between."""
        fates = []
        for mebibytes in (16, 32, 64, 96, 128, 192, 256, 384, 512):
            def limit(size=mebibytes << 20):
                resource.setrlimit(resource.RLIMIT_AS, (size, size))
            mapper = Mapper(loop='epoll', args=['-workers', '2', '-capacity', '4096'], before_exec=limit)
            self.addCleanup(mapper.close)
            mapper.start(answering=False)
            fate = harness.wait_until(lambda m=mapper: self.fate(m), 'it serves or ends')
            fates.append(f'{mebibytes} MiB: {fate}')
            if fate == 'served':
                # At the edge the memory for a first registration or lookup may be what is missing: then that is not answered, and
                # that is all, or the mapper ends of it.
                reply = found = b''
                with contextlib.suppress(OSError):
                    node = mapper.connect()
                    self.addCleanup(node.close)
                    node.sendall(harness.frame(harness.alive2_body(b'node', port=4711)))
                    reply = harness.receive_alive2_reply(node)
                    found = mapper.request(b'znode')
                if reply != b'' and harness.alive2_result(reply)[0] == 0 and found != b'':
                    self.assertEqual(found[2:4], struct.pack('>H', 4711))
                else:
                    fate = harness.wait_until(lambda m=mapper: self.fate(m), 'it serves or ends')
                    fates[-1] += f', request not answered, {fate}'
            if fate == 'ended':
                self.assertTrue(mapper.log().strip(), 'not a word')
            mapper.close()
        print('\n' + ', '.join(fates))

    def test_no_descriptor_at_all(self):
        """Its limit is lowered below what it has open: accepting fails for real, and who waits is answered later."""
        for loop in ('epoll', 'io_uring'):
            with self.subTest(loop=loop):
                mapper = self.serve(Kept, loop=loop)
                self.steady(mapper)
                before = creations(mapper)
                pid = mapper.mapper_pid()
                limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (STEADY, limits[1]))
                idle = []

                def fails(m=mapper, clients=idle):
                    # Numbers of what was open for a moment while nodes registered may be free among theirs. And an accept that
                    # is pending has the limit of when it was asked for.
                    clients.append(m.connect())
                    self.addCleanup(clients[-1].close)
                    return 'cannot be accepted: Too many open files' in m.log()
                harness.wait_until(fails, 'accepting fails')
                waiting = [mapper.connect() for _ in range(WAITING)]
                for connection in waiting:
                    connection.sendall(harness.frame(b'zsteady3'))
                done = mapper.upgraded()
                self.assertEqual(done.returncode, 1, done)
                self.assertIn('Too many open files', done.stderr)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
                for connection in idle:
                    connection.close()
                for connection in waiting:
                    self.assertEqual(harness.receive_all(connection)[2:4], struct.pack('>H', 5003))
                    connection.close()
                self.check_kept(mapper, before)
                self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
                self.check_kept(mapper, before)
                mapper.close()

    def test_descriptors_run_out(self):
        """As many connections as there are descriptors, while the keeper holds its own: nobody is lost."""
        mapper = self.serve(Kept, descriptors=256)
        nodes = self.steady(mapper)
        before = creations(mapper)
        idle = []
        try:
            for _ in range(400):
                idle.append(mapper.connect())
            self.assertEqual([*clients(mapper, nodes, random.Random(SEED), 50, may_refuse=True)], [])
        finally:
            for connection in idle:
                connection.close()
        self.check_kept(mapper, before)


@harness.ours_only
class SandboxTest(FaultCase):
    """Rings are refused to a mapper after they were not to the one before, and the other way round: nobody is lost, nor a lookup."""

    def setUp(self):
        self.mapper = self.serve(Kept, loop='auto')
        nodes = self.steady(self.mapper)
        self.before = creations(self.mapper)
        if self.loop() != 'io_uring':
            self.skipTest('no io_uring here')
        self.load = load.Load(self.mapper.port, nodes)

    def loop(self):
        return status(self.mapper)['loop'].split()[0]

    def strict(self, first, last):
        """A program that the mapper starts instead of its own, and that becomes the mapper in a stricter sandbox."""
        path = os.path.join(self.mapper.directory, f'strict-{first}-{last}')
        with open(path, 'w') as file:
            file.write(f'#!{sys.executable} -B\nimport os, sys\nsys.path.insert(0, {TESTS!r})\n'
                       f'from harness import seccomp\nseccomp.refuse_io_uring({first}, {last})\n'
                       f'os.execv({harness.EPMD!r}, [{harness.EPMD!r}, *sys.argv[1:]])\n')
        os.chmod(path, 0o755)
        return path

    def killed(self, pid):
        """Waits for the mapper that serves after this process was killed."""
        own = self.mapper.mapper_pid()
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: len(self.mapper.family() - {pid}) == 2 and status(self.mapper)['running'] and
                           (pid != own or self.mapper.mapper_pid() != own), lambda: self.mapper.log())
        self.check_kept(self.mapper, self.before)

    def test_upgrades_and_deaths(self):
        for first, last in ((seccomp.IO_URING_SETUP, seccomp.IO_URING_REGISTER),
                            (seccomp.IO_URING_ENTER, seccomp.IO_URING_ENTER)):
            with self.subTest(first=first), self.load as running:
                done = self.mapper.upgraded(self.strict(first, last))
                self.assertEqual(done.returncode, 0, done.stderr + self.mapper.log())
                self.assertEqual(self.loop(), 'epoll')
                self.check_kept(self.mapper, self.before)
                # What it starts has its sandbox.
                self.assertEqual(self.mapper.upgraded(harness.EPMD).returncode, 0, self.mapper.log())
                self.assertEqual(self.loop(), 'epoll')
                self.check_kept(self.mapper, self.before)
            self.assertEqual(running.failures, [])
            # The keeper is not in that sandbox.
            self.killed(self.mapper.mapper_pid())
            self.assertEqual(self.loop(), 'io_uring')

    def test_keeper_in_the_sandbox(self):
        self.assertEqual(self.mapper.upgraded(self.strict(seccomp.IO_URING_SETUP, seccomp.IO_URING_REGISTER)).returncode, 0)
        harness.wait_until(lambda: len(self.mapper.family()) == 2, 'the predecessor has ended')
        # The mapper starts the next keeper, and that one the next mapper.
        self.killed(self.mapper.pid)
        self.killed(self.mapper.mapper_pid())
        self.assertEqual(self.loop(), 'epoll')


if __name__ == '__main__':
    unittest.main()
