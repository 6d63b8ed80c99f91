"""What an operator is told at a glance: whether all is well, the last minute, who asks most, and who is missing."""

import itertools
import json
import os
import socket
import subprocess
import unittest

import harness
from harness import custody
from harness.epmdctl import arguments, environment, epmdctl, printed, status

WELL, WARNING, CRITICAL = 0, 1, 2


@harness.ours_only
class WellTest(unittest.TestCase):

    def check(self, mapper):
        done = epmdctl(mapper, 'status', '--check')
        self.assertEqual(done.stdout.count('\n'), 1, done)
        return done.returncode, done.stdout

    def test_all_is_well(self):
        with harness.Mapper() as mapper:
            connection, _ = mapper.register(b'rabbit')
            with connection:
                code, line = self.check(mapper)
                self.assertEqual(code, WELL, line)
                self.assertRegex(line, r'^EPMD OK - 1 nodes.* \| nodes=1 orphaned=0 missing=0 connections=\d+ requests=\d+')
                self.assertTrue(printed(mapper, 'status').startswith('All is well: 1 node'))
                self.assertTrue(status(mapper)['well'])

    def test_refused_registrations(self):
        with harness.Mapper() as mapper:
            connection, _ = mapper.register(b'rabbit')
            with connection:
                mapper.alive2(b'rabbit')[0].close()
                code, line = self.check(mapper)
                self.assertEqual(code, WARNING, line)
                self.assertIn('1 registrations refused in the last minute', line)
                text = printed(mapper, 'status')
                self.assertTrue(text.startswith('Not well: 1 registrations refused'), text)
                # Errors first.
                self.assertLess(text.index('alive2 refused'), text.index('alive2 registered'))

    def test_no_mapper(self):
        with harness.Mapper() as mapper:
            mapper.stop()
            code, line = self.check(mapper)
            self.assertEqual(code, CRITICAL)
            self.assertIn('the mapper does not run', line)
            os.unlink(mapper.registry)
            self.assertEqual(self.check(mapper)[0], CRITICAL)

    def test_orphans(self):
        with harness.Mapper() as mapper, socket.create_server((harness.HOST, 0)) as listener:
            self.addCleanup(custody.orphan(mapper, b'rabbit', listener).close)
            code, line = self.check(mapper)
            self.assertEqual(code, WARNING)
            self.assertIn('1 of 1 nodes have lost their connection', line)

    def test_expected_nodes(self):
        with harness.Mapper(['-expect', 'rabbit,fox']) as mapper:
            fox, _ = mapper.register(b'fox')
            with fox:
                code, line = self.check(mapper)
                self.assertEqual(code, CRITICAL)
                self.assertIn('node rabbit is missing since 20', line)
                never = {one['name']: one for one in status(mapper)['expected']}
                self.assertEqual([never['rabbit']['missing'], never['fox']['missing']], [True, False])
                self.assertEqual(never['rabbit']['missing_since'], status(mapper)['started'])
                rabbit, _ = mapper.register(b'rabbit')
                self.assertEqual(self.check(mapper)[0], WELL)
                rabbit.close()
                mapper.wait_gone(b'rabbit')
                gone = {one['name']: one for one in status(mapper)['expected']}['rabbit']
                self.assertTrue(gone['missing'])
                left = [node['left'] for node in json.loads(printed(mapper, '--json', 'list', '--all')) if node['name'] == 'rabbit']
                self.assertEqual([gone['missing_since']], left)

    def test_expected_names_are_checked(self):
        for value in ('', 'a@b', 'a\nb', ','.join('n%d' % number for number in range(257)), 'x' * 1021):
            with self.subTest(value[:20]):
                done = harness.run_epmd('-expect', value, '-no_keeper')
                self.assertEqual(done.returncode, 1)
                self.assertIn('-expect', harness.one_line(done))


@harness.ours_only
class LastMinuteTest(unittest.TestCase):

    def test_what_was_counted(self):
        with harness.Mapper() as mapper:
            for _ in range(20):
                mapper.lookup(b'nobody')
            minute = status(mapper)['last_minute']
            self.assertEqual(minute['counters']['port2_unknown'], 20)
            self.assertGreaterEqual(minute['latency']['count'], 20)
            # What an earlier mapper has counted was not in the last minute of this one.
            mapper.stop()
            mapper.start()
            mapper.lookup(b'nobody')
            told = status(mapper)
            self.assertEqual(told['last_minute']['counters']['port2_unknown'], 1)
            self.assertEqual(told['counters']['port2_unknown'], 21)

    def test_latencies_are_told_apart(self):
        with harness.Mapper() as mapper:
            for _ in range(200):
                mapper.lookup(b'nobody')
            ends = [bucket['below_us'] for bucket in status(mapper)['latency']['buckets']]
            between = [end for end in ends if end and 30 <= end <= 100]
            if ends[-1] is None or ends[-1] > 100:
                self.assertGreaterEqual(len(between), 12)


@harness.ours_only
class AskersTest(unittest.TestCase):

    def askers_while(self, mapper, ask):
        """Who asks how often according to `epmdctl top`, while ask() is called again and again."""
        with subprocess.Popen(arguments(mapper, '--json', 'top', '--once', '--interval', '2'), stdout=subprocess.PIPE,
                              env=environment()) as top:
            while top.poll() is None:
                ask()
            self.assertEqual(top.returncode, 0)
            return json.load(top.stdout)['askers_per_second']

    def test_who_asks_most(self):
        with harness.Mapper(address=None) as mapper:
            many = harness.Client(mapper.port, source='127.0.0.7')
            few = harness.Client(mapper.port, source='127.0.0.9')
            def ask():
                for _ in range(10):
                    many.lookup(b'nobody')
                few.lookup(b'nobody')
                few.names()
            askers = {one['address']: one for one in self.askers_while(mapper, ask)}
            self.assertGreater(askers['127.0.0.7']['port2'], askers['127.0.0.9']['port2'])
            self.assertGreater(askers['127.0.0.9']['names'], 0)
            self.assertEqual(askers['127.0.0.7']['names'], 0)

    def test_many_addresses(self):
        with harness.Mapper(address=None) as mapper:
            numbers = itertools.count()
            def ask():
                number = next(numbers) % 500
                harness.Client(mapper.port, source=f'127.1.{number // 200}.{number % 200 + 1}').lookup(b'nobody')
            askers = self.askers_while(mapper, ask)
            self.assertGreater(len(askers), 0)
            # A worker knows so many.
            self.assertLessEqual(len(askers), 32 * status(mapper)['workers'])


if __name__ == '__main__':
    unittest.main()
