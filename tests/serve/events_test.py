"""A program that wants to know of changes is told (P12): any user's, each time, and never too late."""

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import threading
import time
import unittest

import harness
from harness import Kept, Mapper, seccomp
from harness.inotify import IN_MODIFY, Watch
from harness.libevermap import CHANGED, REPLACED, Reader, ReaderOfNobody, WatchError

ROUNDS = harness.scaled('EVENTS_ROUNDS', 300, least=20)
KILLS = harness.scaled('EVENTS_KILLS', 20, least=3)
UPGRADES = harness.scaled('EVENTS_UPGRADES', 5, least=2)
UTIMENSAT = 280  # of x86-64
# How long nothing has to come until nothing comes.
QUIET_S = 0.3
EPMD_NEXT_LAYOUT = os.environ.get('EPMD_NEXT_LAYOUT_BINARY')


def names_of(mapper):
    with Reader(mapper.registry) as reader:
        return reader.names()


class Nodes:
    """Nodes that come and go, and the names of those that are there."""

    def __init__(self, mapper, seed):
        self._mapper = mapper
        self._choice = random.Random(seed)
        self._connections = {}
        self._made = 0

    def names(self):
        return set(self._connections)

    def come(self, count=1):
        for _ in range(count):
            name = f'node{self._made}'
            self._made += 1
            self._connections[name], _ = self._mapper.register(name.encode())

    def try_to_come(self, count):
        """As come(), while the mapper may die."""
        for _ in range(count):
            with contextlib.suppress(AssertionError, OSError):
                self.come()

    def go(self, count=1):
        for _ in range(min(count, len(self._connections))):
            self._connections.pop(self._choice.choice(sorted(self._connections))).close()

    def change(self):
        """Some come, some go, in any order."""
        for _ in range(self._choice.choice((1, 1, 2, 5, 30))):
            if self._choice.random() < 0.5:
                self.come()
            else:
                self.go()

    def close(self):
        for connection in self._connections.values():
            connection.close()


@harness.ours_only
class EventsCase(unittest.TestCase):

    def started(self, mapper):
        self.addCleanup(mapper.close)
        # mkdtemp() lets nobody else in.
        os.chmod(mapper.directory, 0o755)
        return mapper.start()

    def nodes(self, mapper, seed=12):
        nodes = Nodes(mapper, seed)
        self.addCleanup(nodes.close)
        return nodes

    def reader(self, mapper):
        return self.enterContext(ReaderOfNobody(mapper.registry))

    def enterContext(self, manager):  # as unittest has it from Python 3.11 on
        entered = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return entered

    def check_sees(self, reader, nodes, what=''):
        is_seen, _ = reader.sees(nodes.names())
        self.assertTrue(is_seen, f'{what}: untold: {nodes.names() ^ (reader.names or set())}')


class ToldTest(EventsCase):

    @harness.as_root_only
    def test_each_change_is_told(self):
        """The last change of each round is, too: the reader looks when it is told, and never else."""
        mapper = self.started(Mapper())
        nodes, reader = self.nodes(mapper), self.reader(mapper)
        for number in range(ROUNDS):
            nodes.change()
            self.check_sees(reader, nodes, f'round {number}')
            if number % 10 == 0:
                # In the middle of a notice, or a moment after one, as well as after a quiet time.
                time.sleep(random.Random(number).random() * 0.004)

    def test_many_changes_are_told_as_few(self):
        mapper = self.started(Mapper())
        nodes = self.nodes(mapper)
        told, ends = [], threading.Event()

        def count():
            while not ends.is_set():
                told.extend(watch.take(0.02))

        with Watch(mapper.registry) as watch:
            counter = threading.Thread(target=count)
            counter.start()
            begin = time.monotonic()
            nodes.come(300)
            took_ms = (time.monotonic() - begin) * 1000
            time.sleep(QUIET_S)
            ends.set()
            counter.join()
        self.assertGreater(len(told), 0)
        # The notifier sleeps for a millisecond after each.
        self.assertLess(len(told), took_ms + 10)
        self.assertEqual(set(told), {IN_MODIFY})

    @unittest.skipIf(harness.INSTRUMENTED, 'the runtime of a sanitizer has threads of its own')
    def test_while_nothing_changes_nothing_happens(self):
        mapper = self.started(Mapper())
        nodes = self.nodes(mapper)
        nodes.come(3)

        def switches():
            for task in os.listdir(f'/proc/{mapper.pid}/task'):
                with open(f'/proc/{mapper.pid}/task/{task}/comm') as comm:
                    if comm.read().strip() != 'epmd-notifier':
                        continue
                with open(f'/proc/{mapper.pid}/task/{task}/status') as status:
                    return next(line for line in status if line.startswith('voluntary_ctxt'))
            raise AssertionError('no notifier')

        with Watch(mapper.registry) as watch:
            watch.take_until_quiet(QUIET_S)
            before = switches()
            for _ in range(100):
                self.assertIsNotNone(mapper.lookup(b'node1'))
            self.assertEqual(watch.take_until_quiet(QUIET_S)[0], [])
            self.assertEqual(switches(), before)

    def test_readers_are_told_that_they_are_not_told(self):
        """A mapper that may not touch its file says so in it and in its log."""
        mapper = self.started(Mapper(before_exec=lambda: seccomp.refuse_calls([UTIMENSAT], errno.EPERM)))
        harness.wait_until(lambda: 'have to poll' in mapper.log(), 'the log says it')
        with Reader(mapper.registry) as reader:
            self.assertFalse(reader.is_told())
        self.nodes(mapper).come(3)
        self.assertEqual(mapper.log().count('have to poll'), 1)

    def test_usual_path(self):
        path, size = harness.libevermap.usual_path(4711, 4096)
        self.assertEqual(size, len(path))
        self.assertIn('4711', path)
        # As snprintf(3) does it.
        self.assertEqual(harness.libevermap.usual_path(4711, 8), (path[:7], size))

    def test_errors_of_the_kernel_are_told(self):
        mapper = self.started(Mapper())
        with Reader(mapper.registry):
            pass  # The library is loaded.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            with self.assertRaises(WatchError) as raised:
                Reader(mapper.registry)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(raised.exception.errno, errno.EMFILE)

    @harness.as_root_only
    @unittest.skipIf(harness.INSTRUMENTED, "Python has no room for a sanitizer's runtime")
    def test_bounds_of_the_kernel_are_an_error(self):
        mapper = self.started(Mapper())
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                with Reader(mapper.registry):
                    pass
                os.setuid(harness.libevermap.NOBODY)
                with contextlib.ExitStack() as taken:
                    try:
                        while True:
                            taken.enter_context(Watch(mapper.registry))
                    except OSError as error:
                        code = 2 if error.errno == errno.EMFILE else 3
                    try:
                        Reader(mapper.registry)
                    except WatchError as error:
                        is_clear = error.errno == errno.EMFILE and 'max_user_instances' in str(error)
                        code = 0 if code == 2 and is_clear else 4
            os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


@harness.as_root_only
class CustodyTest(EventsCase):
    """What becomes of the mapper and its file is nothing that a reader misses a change by."""

    def kept(self):
        return self.started(Kept())

    def test_killed_mappers(self):
        """Changes go on while it is killed; each time what is there at the end is seen by the reader."""
        mapper = self.kept()
        nodes, reader = self.nodes(mapper), self.reader(mapper)
        for number in range(KILLS):
            changing = threading.Thread(target=lambda: [nodes.try_to_come(2), nodes.go(), nodes.try_to_come(5)])
            changing.start()
            killed = mapper.mapper_pid()
            os.kill(killed, signal.SIGKILL)
            changing.join()
            harness.wait_until(lambda pid=killed: mapper.mapper_pid() not in (0, pid), 'the next mapper')
            # A node whose connection was lost before it was stored may end at any time, and that is told, too.
            harness.wait_until(lambda: reader.names == names_of(mapper), f'kill {number}: all is told')

    def test_upgrades(self):
        mapper = self.kept()
        nodes, reader = self.nodes(mapper), self.reader(mapper)
        for number in range(UPGRADES):
            changing = threading.Thread(target=lambda: [nodes.change() for _ in range(20)])
            changing.start()
            self.assertEqual(mapper.upgraded().returncode, 0, mapper.log())
            changing.join()
            self.check_sees(reader, nodes, f'upgrade {number}')
        nodes.come()
        self.check_sees(reader, nodes, 'after it')

    def test_file_that_was_removed(self):
        mapper = self.kept()
        nodes, reader = self.nodes(mapper), self.reader(mapper)
        for number in range(3):
            replaced = sum(bool(news & REPLACED) for news in reader.news)
            os.unlink(mapper.registry)
            nodes.come()
            # Told through the file that has no name, or the next one.
            harness.wait_until(lambda: os.path.exists(mapper.registry), 'it is put back')
            nodes.come()
            self.check_sees(reader, nodes, f'removal {number}')
            self.assertGreater(sum(bool(news & REPLACED) for news in reader.news), replaced)

    def test_mapper_that_starts_later_and_again(self):
        """A reader may wait for a registry whose directory is not even there, and go on over a restart."""
        mapper = Mapper()
        self.addCleanup(mapper.close)
        os.chmod(mapper.directory, 0o755)
        directory = os.path.join(mapper.directory, 'one', 'two')
        mapper.registry = os.path.join(directory, 'registry')
        reader = self.reader(mapper)
        self.assertIsNone(reader.names)
        os.makedirs(directory)
        mapper.start()
        nodes = self.nodes(mapper)
        nodes.come(2)
        self.check_sees(reader, nodes, 'start')
        mapper.stop()
        shutil.rmtree(directory)
        os.makedirs(directory)
        mapper.start()
        again = self.nodes(mapper)
        again.come(1)
        self.check_sees(reader, again, 'another directory')

    @unittest.skipUnless(EPMD_NEXT_LAYOUT, 'needs EPMD_NEXT_LAYOUT_BINARY')
    def test_migration(self):
        """Whoever has the old file open is told that another one has taken its place."""
        mapper = self.kept()
        with Watch(mapper.registry) as plain, Reader(mapper.registry) as reader:
            plain.take_until_quiet(QUIET_S)
            reader.take(0)
            mapper.ask_for(EPMD_NEXT_LAYOUT)
            harness.wait_until(lambda: plain.take(0.1) and reader.is_superseded(), 'the old file is touched')
            news = 0
            while not news & REPLACED:
                news = reader.take(harness.PATIENCE_S)
                self.assertNotEqual(news, 0)
            with Watch(mapper.registry) as of_new:
                mapper.register(b'one')[0].close()
                self.assertNotEqual(of_new.take(harness.PATIENCE_S), [])


class PlainTest(EventsCase):

    def test_orphans_are_told(self):
        """An orphan is adopted, or ends: the file is touched for that as well."""
        mapper = self.started(Mapper(args=['-orphan_grace', '1']))
        nodes = self.nodes(mapper)
        nodes.come()
        os.kill(mapper.pid, signal.SIGKILL)
        mapper.wait()
        nodes.close()
        with Reader(mapper.registry) as reader:
            mapper.stop()
            mapper.start()
            names = reader.names()
            while names:
                # A file that comes beside the registry wakes a reader, too, and is no news.
                harness.wait_until(lambda: reader.take(1) & (CHANGED | REPLACED), 'there is news')
                names = reader.names()


if __name__ == '__main__':
    unittest.main()
