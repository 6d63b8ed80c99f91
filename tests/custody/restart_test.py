"""Stop and start: of nodes, of the mapper, and of a second mapper beside the first."""

import os
import signal
import socket
import threading
import time
import unittest

import harness
from harness import Mapper, epmdctl

ROUNDS = harness.scaled('ROUNDS', 5000)
OTHER_NODES = 200
WORKERS = [] if harness.TESTING_STOCK else ['-workers', '4']


class QuickReturnTest(unittest.TestCase):
    """A node that stops and starts at once gets its name back at once (erlang/otp issue 11083)."""

    def setUp(self):
        self.mapper = Mapper(args=WORKERS)
        self.addCleanup(self.mapper.close)
        self.mapper.start()
        self.others = {b'other%d' % number: self.mapper.register(b'other%d' % number, port=number)[0]
                       for number in range(OTHER_NODES)}
        self.addCleanup(lambda: [connection.close() for connection in self.others.values()])

    def others_are_there(self):
        names = dict(self.mapper.names())
        for number, name in enumerate(self.others):
            self.assertEqual(names.get(name), number)

    def rounds(self, name, count, leave):
        """Returns the refused rounds, and what of the creations was not one more than before."""
        refused, repeated, creation, old = [], [], None, []
        for number in range(count):
            connection, reply = self.mapper.alive2(name, port=1 + number % 60000)
            if reply == b'' or harness.alive2_result(reply)[0] != 0:
                refused.append((number, reply))
                connection.close()
                self.mapper.wait_gone(name)
                continue
            before, creation = creation, harness.alive2_result(reply)[1]
            if before is not None and creation != before + 1:
                repeated.append((number, before, creation))
            leave(connection)
            old.append(connection)
            if len(old) > 50:
                old.pop(0).close()
        for connection in old:
            connection.close()
        return refused, repeated

    def check(self, count, leave):
        refused, repeated = self.rounds(b'quick', count, leave)
        if harness.TESTING_STOCK:
            return  # 1 to 2 % of its rounds are refused; that is why this test exists
        self.assertEqual(refused, [], f'{len(refused)} of {count} rounds were refused')
        self.assertEqual(repeated, [])
        self.others_are_there()
        self.mapper.wait_gone(b'quick')

    def test_close(self):
        self.check(ROUNDS, lambda connection: connection.close())

    def test_end_of_sending_alone(self):
        self.check(1000, lambda connection: connection.shutdown(socket.SHUT_WR))

    def test_reset(self):
        self.check(1000, harness.reset)

    def test_several_names_at_once(self):
        if harness.TESTING_STOCK:
            self.skipTest('the stock epmd refuses some')
        results = {}

        def client(name):
            results[name] = self.rounds(name, 500, lambda connection: connection.close())

        threads = [threading.Thread(target=client, args=(b'quick%d' % number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, {b'quick%d' % number: ([], []) for number in range(8)})
        self.others_are_there()

    def test_only_one_of_many_gets_a_name(self):
        """Many ask for one name at the same time, again and again: exactly one has it, and PORT2 tells which."""
        contenders = 8
        barrier = threading.Barrier(contenders)
        outcome = [None] * contenders
        wrong = []

        def contend(index):
            try:
                for number in range(100):
                    barrier.wait(harness.PATIENCE_S)
                    connection, reply = self.mapper.alive2(b'contended', port=1000 + index)
                    outcome[index] = harness.alive2_result(reply)[0] == 0
                    barrier.wait(harness.PATIENCE_S)
                    if index == 0:
                        found = self.mapper.lookup(b'contended')
                        if sum(outcome) != 1 or found is None or found.port != 1000 + outcome.index(True):
                            wrong.append((number, list(outcome), found))
                    barrier.wait(harness.PATIENCE_S)
                    connection.close()
                    barrier.wait(harness.PATIENCE_S)
                    if index == 0:
                        self.mapper.wait_gone(b'contended')
            except BaseException as error:
                wrong.append(error)
                barrier.abort()

        threads = [threading.Thread(target=contend, args=(index,)) for index in range(contenders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_living_holder_keeps_its_name(self):
        """The test of life must not cost a living node its name, however often others ask."""
        for number in range(500):
            connection, reply = self.mapper.alive2(b'other7', port=9)
            self.assertEqual(harness.alive2_result(reply), (1, harness.REFUSED_CREATION), f'attempt {number}')
            connection.close()
        self.assertEqual(self.mapper.lookup(b'other7').port, 7)


class SecondMapperTest(unittest.TestCase):

    def identity(self, path):
        status = os.stat(path)
        return status.st_ino, status.st_size, status.st_uid, status.st_mode

    def test_second_mapper_exits_at_once(self):
        with Mapper() as first:
            node, _ = first.register(b'node', port=4711)
            gone, _ = first.register(b'gone')
            gone.close()
            first.wait_gone(b'gone')
            dump = first.dump()
            before = None if first.is_stock else self.identity(first.registry)
            for extra in ([], ['-address', '127.0.0.1'], ['-relaxed_command_check']):
                # On the registry of the first, and on one of its own, which it then has no reason to make.
                own = os.path.join(first.directory, 'second')
                for registry in ([],) if first.is_stock else (['-registry', first.registry], ['-registry', own]):
                    with self.subTest(extra=extra, registry=registry):
                        done = harness.run_epmd(*registry, *extra, port=first.port)
                        self.assertEqual(done.returncode, 0, done)
                        self.assertEqual(done.stdout, b'')
                        self.assertEqual(first.dump(), dump)
                        self.assertFalse(os.path.exists(own), 'a second mapper made a registry')
            if before is not None:
                self.assertEqual(self.identity(first.registry), before)
            self.assertEqual(first.lookup(b'node').port, 4711)
            self.assertTrue(first.alive())
            self.assertEqual(harness.listeners(first.port), {first.pid})
            node.close()

    def test_second_mapper_as_a_daemon(self):
        with Mapper() as first:
            node, _ = first.register(b'node')
            registry = [] if first.is_stock else ['-registry', first.registry]
            done = harness.run_epmd('-daemon', '-address', '127.0.0.1', *registry, port=first.port)
            self.assertEqual((done.returncode, done.stdout), (0, b''), done)
            time.sleep(0.2)  # for a child of it that should not be there
            self.assertEqual(harness.listeners(first.port), {first.pid})
            self.assertIsNotNone(first.lookup(b'node'))
            node.close()

    def test_many_at_once(self):
        """Of several mappers started at the same time on one port one serves; the others exit 0."""
        for _ in range(5):
            port = harness.free_port()
            mappers = [Mapper(port=port) for _ in range(6)]
            try:
                for mapper in mappers:
                    mapper.registry = mappers[0].registry
                    mapper.start(answering=False)
                harness.wait_until(lambda: sum(mapper.alive() for mapper in mappers) <= 1, 'all but one ended')
                alive = [mapper for mapper in mappers if mapper.alive()]
                self.assertEqual(len(alive), 1, [mapper.log() for mapper in mappers])
                self.assertEqual([mapper.wait() for mapper in mappers if mapper is not alive[0]], [0] * 5)
                harness.wait_until(alive[0]._answers, 'the one answers')
            finally:
                for mapper in mappers:
                    mapper.close()


@harness.ours_only
class RestartTest(unittest.TestCase):
    """What the registry remembers when the mapper is stopped and started."""

    def restarted(self, signal_number):
        with Mapper() as mapper:
            creations = {}
            for name, description in ((b'left', {}), (b'twice', {}), (b'held', {}), (b'old', {'highest': 5}),
                                      ('größe'.encode(), {}), (b'long' * 60, {'extra': b'e' * 1020})):
                connection, creations[name] = mapper.register(name, **description)
                if name != b'held':
                    connection.close()
                    mapper.wait_gone(name)
                else:
                    held = connection
            connection, again = mapper.register(b'twice')
            self.assertEqual(again, creations[b'twice'] + 1)
            creations[b'twice'] = again
            connection.close()
            mapper.wait_gone(b'twice')
            old_lines = {line.split(b'<')[1].split(b'>')[0] for line in mapper.dump() if line.startswith(b'old')}
            self.assertEqual(old_lines, set(creations) - {b'held'})

            # Its port shows nothing, since nobody listens on it: its user proves that it is the same.
            harness.wait_until(lambda: epmdctl.lookup(mapper, 'held')['uid'] == os.geteuid(), 'its user is recorded')
            code = mapper.stop(signal_number)
            if signal_number != signal.SIGKILL:
                self.assertEqual(code, 0)
            held.close()
            mapper.start()

            dump = mapper.dump()
            for name in set(creations) - {b'held'}:
                self.assertTrue([line for line in dump if line.startswith(b'old/unused name <' + name + b'>')], name)
            for name, before in creations.items():
                description = {'highest': 5} if name == b'old' else {}
                connection, reply = mapper.alive2(name, **description)
                if name == b'held':
                    # It comes back to the registration that it had.
                    self.assertEqual(harness.alive2_result(reply), (0, before))
                elif name == b'old':
                    self.assertEqual(harness.alive2_result(reply)[0], 0)
                    self.assertNotEqual(harness.alive2_result(reply)[1], before)
                else:
                    self.assertEqual(harness.alive2_result(reply), (0, before + 1), name)
                connection.close()

    def test_creations_are_kept_over_sigterm(self):
        self.restarted(signal.SIGTERM)

    def test_creations_are_kept_over_sigkill(self):
        self.restarted(signal.SIGKILL)

    def test_creations_are_kept_over_kill_request(self):
        with Mapper() as mapper:
            connection, creation = mapper.register(b'node')
            connection.close()
            mapper.wait_gone(b'node')
            self.assertEqual(mapper.kill(), b'OK')
            self.assertEqual(mapper.wait(), 0)
            mapper.start()
            connection, again = mapper.register(b'node')
            self.assertEqual(again, creation + 1)
            connection.close()

    def test_restart_while_connections_linger(self):
        """Connections of the predecessor in TIME_WAIT or half closed do not keep the port."""
        with Mapper(args=['-orphan_grace', '1']) as mapper:
            for _ in range(5):
                nodes = [mapper.register(b'n%d' % number)[0] for number in range(20)]
                self.assertEqual(len(mapper.names()), 20)
                self.assertEqual(mapper.stop(), 0)
                mapper.start()
                for node in nodes:
                    node.close()
                mapper.wait_gone(b'n0')
                harness.wait_until(lambda: not mapper.names(), 'all are gone')


@harness.ours_only
class LeaveTest(unittest.TestCase):

    def test_mapper_does_not_stay_for_requests_that_are_answered(self):
        took_s = []
        for _ in range(8):
            with Mapper(args=WORKERS) as mapper:
                stop = threading.Event()

                def ask():
                    while not stop.is_set():
                        try:
                            mapper.lookup(b'nobody')
                        except (OSError, AssertionError):
                            return

                clients = [threading.Thread(target=ask) for _ in range(3)]
                for client in clients:
                    client.start()
                time.sleep(0.1)
                start = time.monotonic()
                self.assertEqual(mapper.stop(), 0)
                took_s.append(time.monotonic() - start)
                stop.set()
                for client in clients:
                    client.join()
        # It waits half a second for requests that are not whole.
        self.assertLess(sorted(took_s)[-2], 0.4, took_s)


if __name__ == '__main__':
    unittest.main()
