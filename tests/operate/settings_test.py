"""Settings: each in all three places and their order, what is wrong with them, reload, and what a broken file costs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness
from harness import as_root_only
from harness.epmdctl import epmdctl, printed, status
from harness.network import user
from harness.process import state_of, wait_for_logs

ALICE = 64101

# name: (value, values that are refused), each value other than the default.
SETTINGS = {
    'port': (None, ['0', '65536', 'x', '4369x']),
    'address': ('127.0.0.1', ['localhost', '127.0.0.1;::1']),
    'allow': ('192.0.2.0/24', ['192.0.2.1/24', 'x']),
    'access': ('list from host', ['list', 'lists from host', 'list from hosts', 'register from all', 'list from user:']),
    'reserve': ('hare=root', ['hare', 'hare=', 'hare@host=root', 'hare=root,fox=root', 'hare=no-such-user-here', '@/no/such/file']),
    'expect': ('hare,fox', ['hare@host', 'h' * 1021, ',']),
    'relaxed_command_check': ('true', ['yes', '1']),
    'packet_timeout': ('5', ['0', '1000001', '-1']),
    'orphan_grace': ('6', ['0', '86401']),
    'name_wait': ('4', ['0', '61']),
    'idle_exit': ('700', ['0', '2592001']),
    'delay_accept': (None, ['0', '3601']),
    'delay_write': (None, ['0', '3601']),
    'debug': ('2', ['4', '-1']),
    'loop': ('epoll', ['kqueue']),
    'workers': ('3', ['0', '257']),
    'no_keeper': ('true', ['no']),
    'pidfile': (None, []),
    'registry': (None, []),
    'capacity': ('1000', ['0', '16777217']),
}
FLAGS = ('relaxed_command_check', 'no_keeper')


def variable(name):
    return 'ERL_EPMD_' + name.upper()


def config(mapper):
    """{setting: [(value, origin, place)]} as epmdctl shows it."""
    shown = {}
    for setting in json.loads(printed(mapper, '--json', 'config'))['settings']:
        shown.setdefault(setting['name'], []).append((setting['value'], setting['origin'], setting['place']))
    return shown


class SettingsTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, 'epmd.conf')

    def write(self, text, path=None):
        with open(path or self.path, 'w') as file:
            file.write(text)
        os.chmod(path or self.path, 0o644)

    def drop_in(self, name, text):
        os.makedirs(self.path + '.d', mode=0o755, exist_ok=True)
        self.write(text, os.path.join(self.path + '.d', name))

    def check(self, *args, **env):
        """(exit code, lines) of epmd -check."""
        done = harness.run_epmd(*args, '-check', env={'ERL_EPMD_CONFIG': self.path, **env})
        return done.returncode, (done.stdout + done.stderr).decode().splitlines()

    def refused(self, *args, **env):
        """The one line of a mapper that does not start."""
        done = harness.run_epmd('-no_keeper', *args, port=harness.free_port(), env={'ERL_EPMD_CONFIG': self.path, **env})
        self.assertEqual(done.returncode, 1, done)
        return harness.one_line(done)

    def mapper(self, *args, env=None, **options):
        mapper = (harness.Kept if options.pop('kept', False) else harness.Mapper)(
            args=list(args), env={'ERL_EPMD_CONFIG': self.path, **(env or {})}, **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def raw(self, args, env, port, registry):
        """A mapper of which nothing is said beside args and env; a harness.Client with .registry and .process."""
        process = subprocess.Popen([harness.EPMD, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=harness.clean_environment(**env))

        def end():
            process.terminate()
            process.wait(harness.PATIENCE_S)
            process.stderr.close()
        self.addCleanup(end)
        client = harness.Client(port)
        client.registry = registry
        client.process = process

        def answers():
            if process.poll() is not None:
                raise AssertionError(f'the mapper ended: {process.stderr.read()}')
            try:
                return client.connect()
            except OSError:
                return None
        harness.wait_until(answers, 'the mapper listens').close()
        harness.wait_until(lambda: epmdctl(client, '--json', 'config').returncode == 0, 'its settings are noted')
        return client

    def values(self):
        """A value for each setting, with a port and paths of its own."""
        values = {name: value for name, (value, _) in SETTINGS.items()}
        directory = tempfile.mkdtemp(dir=self.directory)
        values.update(port=str(harness.free_port()), pidfile=os.path.join(directory, 'pid'), delay_accept='3600',
                      delay_write='3600', registry=os.path.join(directory, 'registry'))
        return values


class PlacesTest(SettingsTest):

    def started_with(self, place):
        values = self.values()
        args, env = [], {'ERL_EPMD_CONFIG': self.path}
        if place == 'option':
            for name, value in values.items():
                args += ['-d'] * int(value) if name == 'debug' else [f'-{name}'] if name in FLAGS else [f'-{name}', value]
        elif place == 'environment':
            env.update({variable(name): value for name, value in values.items()})
        # What stands further up counts, and what stands below it does not, also of lists.
        decoys = {**values, 'packet_timeout': '999', 'access': 'dump from none'}
        self.write(''.join(f'{name} = {value}\n' for name, value in (values if place == 'file' else decoys).items()))
        return values, self.raw(args, env, int(values['port']), values['registry'])

    def test_each_in_all_three_places(self):
        for place in ('option', 'environment', 'file'):
            with self.subTest(place=place):
                values, mapper = self.started_with(place)
                shown = config(mapper)
                self.assertEqual(list(shown), list(SETTINGS))
                for number, (name, value) in enumerate(values.items(), 1):
                    where = {'option': '-' + name, 'environment': variable(name), 'file': f'{self.path}:{number}'}[place]
                    self.assertEqual(shown[name], [(value, place, where)])

    def test_defaults(self):
        mapper = self.mapper(env={'ERL_EPMD_CONFIG': 'none'})
        shown = config(mapper)
        self.assertEqual(shown['packet_timeout'], [('60', 'default', None)])
        self.assertEqual(shown['access'], [('as the stock epmd', 'default', None)])
        self.assertRegex(printed(mapper, 'config'), r'SETTING +VALUE +FROM\nport +\d+ +option -port\n')

    def test_each_is_in_the_manual(self):
        with open(os.path.join(harness.ROOT, 'packaging', 'man', 'epmd.conf.5')) as file:
            manual = file.read()
        with open(os.path.join(harness.ROOT, 'packaging', 'man', 'epmd.1')) as file:
            options = file.read()
        help_text = harness.run_epmd('-help').stdout.decode()
        for name in SETTINGS:
            self.assertRegex(manual, rf'(?m)^\.BI? "?{name} = ', name)
            self.assertIn('\\-' + name, options, name)
            self.assertIn('-' + name, help_text, name)

    def test_bad_values_in_all_three_places(self):
        for name, (_, bad) in SETTINGS.items():
            for value in bad:
                with self.subTest(name=name, value=value):
                    self.write(f'# first\n{name} = {value}\n')
                    code, lines = self.check()
                    self.assertEqual(code, 1)
                    self.assertTrue(lines[0].startswith(f'{self.path}:2: {name}'), lines)
                    self.assertIn(f'{self.path}:2: {name}', self.refused())
                    self.write('')
                    if name != 'relaxed_command_check' and (name, value) != ('port', '4369x'):
                        code, lines = self.check(**{variable(name): value})
                        self.assertEqual(code, 1)
                        self.assertIn(variable(name), lines[0])
                    if name not in FLAGS and name != 'debug':
                        code, lines = self.check('-' + name, value)
                        self.assertEqual(code, 1)
                        self.assertIn('-' + name, lines[0])

    def test_the_example_is_right(self):
        with open(os.path.join(harness.ROOT, 'packaging', 'examples', 'epmd.conf')) as file:
            self.write(re.sub(r'(?m)^#(?=[a-z])', '', file.read()))
        self.assertEqual(self.check()[0], 0)
        with open(self.path) as file:
            self.assertGreater(len([line for line in file if line[0] not in '#\n']), 5)

    def test_a_named_file_must_be_there(self):
        self.assertIn(self.path, self.refused())
        self.assertEqual(self.check()[0], 1)
        self.assertEqual(self.check('-config', 'none')[0], 0)
        # An option goes before the environment.
        self.write('')
        self.assertEqual(self.check(ERL_EPMD_CONFIG='/no/such/file')[0], 1)
        self.assertEqual(self.check('-config', self.path, ERL_EPMD_CONFIG='/no/such/file')[0], 0)

    def test_a_relative_path(self):
        self.write('packet_timeout = 7\n')
        done = harness.run_epmd('-config', 'epmd.conf', '-check', cwd=self.directory)
        self.assertEqual(done.returncode, 0, done)

    def test_commands_ask_at_the_port_of_the_file(self):
        mapper = self.mapper(env={'ERL_EPMD_CONFIG': 'none'})
        self.write(f'port = {mapper.port}\nnonsense = 1\npacket_timeout = x\n')
        done = harness.run_epmd('-names', env={'ERL_EPMD_CONFIG': self.path})
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(str(mapper.port).encode(), done.stdout)
        # A file that is wrong keeps nobody from asking, but is not passed over.
        self.assertEqual(len(done.stderr.splitlines()), 2, done)


class FilesTest(SettingsTest):

    def test_drop_ins(self):
        self.write('packet_timeout = 5\nallow = 127.0.0.0/8\nworkers = 1\n')
        self.drop_in('20-b.conf', 'packet_timeout = 7\nallow = 10.0.0.0/8\n')
        self.drop_in('10-a.conf', 'packet_timeout = 6\n')
        self.drop_in('30-c.conf.bak', 'nonsense\n')
        self.drop_in('.30-c.conf', 'nonsense\n')
        shown = config(self.mapper())
        self.assertEqual(shown['packet_timeout'], [('7', 'file', self.path + '.d/20-b.conf:1')])
        self.assertEqual([value for value, _, _ in shown['allow']], ['127.0.0.0/8', '10.0.0.0/8'])
        self.assertEqual(shown['workers'], [('1', 'file', self.path + ':3')])

    def test_check_names_each_line(self):
        self.write('prot = 4369\nport = 4370\nport = 4371\nlist from host\nregistry = a\x1bb\n')
        self.drop_in('a.conf', 'packet_timeout = soon\nreserve = hare=no-such-user-here\n')
        code, lines = self.check()
        self.assertEqual(code, 1)
        places = [line.split(' ', 1)[0] for line in lines[:-1]]
        self.assertEqual(places, [f'{self.path}:{line}:' for line in (1, 3, 4, 5)] +
                         [f'{self.path}.d/a.conf:{line}:' for line in (1, 2)])
        self.assertTrue(lines[-1].startswith('6 wrong'), lines)
        self.assertIn('and 4 more: epmd -check', self.refused())

    @as_root_only
    def test_files_that_others_may_write(self):
        self.write('packet_timeout = 5\n')
        for change in (lambda: os.chmod(self.path, 0o664), lambda: os.chmod(self.path, 0o646),
                       lambda: os.chown(self.path, ALICE, ALICE)):
            change()
            self.assertIn(self.path + ': ', self.refused())
            self.assertEqual(self.check()[0], 1)
            self.write('packet_timeout = 5\n')
            os.chown(self.path, 0, 0)
        self.assertEqual(self.check()[0], 0)
        self.drop_in('a.conf', '')
        os.chmod(self.path + '.d', 0o777)
        self.assertIn(self.path + '.d: ', self.refused())

    @as_root_only
    def test_a_file_that_the_mapper_may_not_read(self):
        self.write('packet_timeout = 5\n')
        os.chmod(self.path, 0o600)

        def drop():
            os.setgroups([])
            os.setgid(ALICE)
            os.setuid(ALICE)
        done = harness.run_epmd('-check', env={'ERL_EPMD_CONFIG': self.path}, preexec_fn=drop)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(b'Permission denied', done.stdout)

    def test_what_is_no_file(self):
        os.mkfifo(self.path)
        self.assertIn('is no file', self.refused())
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertIn('is no file', self.refused())

    def test_a_daemon_says_why_it_does_not_start(self):
        """What `erl` does: who has started the node reads it."""
        self.write('prot = 1\n')
        done = harness.run_epmd('-daemon', port=harness.free_port(), env={'ERL_EPMD_CONFIG': self.path})
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(f'{self.path}:1: unknown setting'.encode(), done.stderr)

    def test_one_that_is_not_needed_is_quiet(self):
        """`erl` starts one whenever a node starts, and relies on that where one answers already."""
        self.write('')
        mapper = self.mapper()
        self.write('prot = 1\n')
        done = harness.run_epmd('-daemon', '-address', harness.HOST, port=mapper.port, env={'ERL_EPMD_CONFIG': self.path})
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b''))

    @harness.have_erlang
    def test_the_mapper_that_erl_starts_reads_the_file(self):
        port = harness.free_port()
        registry = os.path.join(self.directory, 'registry')
        self.write(f'registry = {registry}\naccess = list from none\n')
        done = subprocess.run(
            ['erl', '-noshell', '-sname', 'hare', '-epmd', f'{harness.EPMD} -daemon', '-eval',
             'io:format("~p", [{erl_epmd:names(), node()}]), halt().'], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=harness.clean_environment(ERL_EPMD_CONFIG=self.path, ERL_EPMD_PORT=port), timeout=60, check=False)
        client = harness.Client(port)
        self.assertTrue(os.path.exists(registry), done)
        # The node is registered, and listed to nobody.
        self.assertIn('hare@', done.stdout, done)
        self.assertNotIn('{"hare"', done.stdout, done)
        self.write('idle_exit = 1\n')
        client.registry = registry
        printed(client, 'reload')

        def is_gone():
            try:
                client.connect().close()
                return False
            except OSError:
                return True
        harness.wait_until(is_gone, 'it ends by itself')


class PortVariableTest(SettingsTest):

    def test_as_the_stock_epmd(self):
        for pattern in ('{}', ' {}', '{} ', '{}abc', '+{}', '\t{}\n', '0{}', '{}.5'):
            port = harness.free_port()
            self.write('')
            with self.subTest(value=pattern):
                value = pattern.format(port)
                mapper = self.raw(['-no_keeper', '-registry', os.path.join(self.directory, f'r{port}')],
                                  {'ERL_EPMD_PORT': value, 'ERL_EPMD_CONFIG': self.path}, port,
                                  os.path.join(self.directory, f'r{port}'))
                shown = config(mapper)['port'][0]
                self.assertEqual((int(shown[0]), *shown[1:]), (port, 'environment', 'ERL_EPMD_PORT'))
                mapper.process.terminate()
                mapper.process.wait()
                warned = b'of which the number' in mapper.process.stderr.read()
                self.assertEqual(warned, pattern not in ('{}', '0{}'))
                if harness.STOCK_EPMD is None:
                    continue
                stock = subprocess.Popen([harness.STOCK_EPMD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, env=harness.clean_environment(ERL_EPMD_PORT=value))
                try:
                    client = harness.Client(port)

                    def connects():
                        try:
                            return client.connect()
                        except OSError:
                            return None
                    harness.wait_until(connects, f'the stock one listens for {value!r}').close()
                finally:
                    stock.terminate()
                    stock.wait()


class ReloadTest(SettingsTest):

    def lists(self, mapper):
        return mapper.request(b'n') != b''

    def test_a_changed_file_is_taken_over(self):
        self.write('')
        mapper = self.mapper(kept=True)
        pid = status(mapper)['pid']
        with mapper.register(b'hare')[0]:
            self.write('access = list from none\npacket_timeout = 1\nrelaxed_command_check = true\ndebug = 1\n')
            self.assertIn('has changed since the mapper looked', printed(mapper, 'config'))
            self.assertIn('taken over', printed(mapper, 'reload'))
            self.assertFalse(self.lists(mapper))
            self.assertEqual(status(mapper)['pid'], pid)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            self.assertEqual(status(mapper)['counters']['names_refused'], 1)
            # The new time counts also for whoever was connected already.
            with mapper.connect() as slow:
                began = time.monotonic()
                self.assertTrue(harness.sees_close(slow))
                self.assertLess(time.monotonic() - began, 20)
            self.assertIn('changed access, relaxed_command_check, packet_timeout, debug', mapper.log())
            self.assertEqual(mapper.request(b'share'), b'STOPPED')
            self.write('')
            printed(mapper, 'reload')
            self.assertTrue(self.lists(mapper))
            self.assertEqual(mapper.request(b'share'), b'')
        self.assertEqual(status(mapper)['last_upgrade'], None)

    def test_a_wrong_file_is_refused(self):
        self.write('access = list from none\n')
        mapper = self.mapper()
        for text in ('access = lists from none\n', 'acess = list from host\n', 'reserve = hare=no-such-user-here\n',
                     'packet_timeout = 5\npacket_timeout = 5\n'):
            self.write(text)
            done = epmdctl(mapper, 'reload')
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(self.path + ':', done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done)
            self.assertIn('the settings stay as they are: ' + self.path, mapper.log())
            self.assertFalse(self.lists(mapper))
            self.assertEqual(config(mapper)['access'], [('list from none', 'file', self.path + ':1')])
            self.assertIn('the last reload was refused', printed(mapper, 'config'))
        self.write('')
        printed(mapper, 'reload')
        self.assertTrue(self.lists(mapper))
        self.assertNotIn('refused', printed(mapper, 'config'))

    def test_what_counts_later_is_said(self):
        self.write('')
        mapper = self.mapper(kept=True)
        self.write('capacity = 1000\norphan_grace = 3\npacket_timeout = 7\n')
        said = printed(mapper, 'reload')
        self.assertIn('capacity = 1000', said)
        self.assertIn('started anew', said)
        self.assertRegex(said, 'orphan_grace = 3 .*upgrade')
        self.assertNotIn('packet_timeout', said)
        shown = config(mapper)
        self.assertEqual((shown['orphan_grace'][0][0], shown['packet_timeout'][0][0]), ('60', '7'))
        mapper.upgraded()
        self.assertEqual(config(mapper)['orphan_grace'][0][0], '3')

    def test_what_counts_at_the_start_stays_over_upgrades_and_crashes(self):
        registry, pid_file = (os.path.join(self.directory, name) for name in ('registry', 'pid'))
        port = harness.free_port()
        said = f'port = {port}\nregistry = {registry}\npidfile = {pid_file}\n'
        self.write(said)
        mapper = self.raw([], {'ERL_EPMD_CONFIG': self.path}, port, registry)
        start = {name: config(mapper)[name] for name in ('port', 'registry', 'pidfile', 'address', 'capacity', 'no_keeper')}
        with mapper.register(b'hare')[0]:
            self.write(said.replace('= /', '= /no') + 'address = 127.0.0.2\ncapacity = 1000\nno_keeper = true\n')
            self.assertIn('registry = /no', printed(mapper, 'reload'))
            printed(mapper, 'upgrade')
            self.assertEqual({name: config(mapper)[name] for name in start}, start)
            self.assertNotIn('ListenStream', printed(mapper, 'config'))
            self.kill(mapper)
            self.assertEqual({name: config(mapper)[name] for name in start}, start)
            with open(pid_file) as file:
                self.assertEqual(int(file.read()), mapper.process.pid)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            # What has changed is told again.
            self.assertIn('pidfile = /no', printed(mapper, 'reload'))

    def test_options_go_before_the_file_after_a_reload_too(self):
        self.write('')
        mapper = self.mapper('-access', 'list from none')
        self.write('access = list from all\n')
        printed(mapper, 'reload')
        self.assertFalse(self.lists(mapper))

    def test_an_upgrade_reads_the_files(self):
        self.write('')
        mapper = self.mapper(kept=True)
        with mapper.register(b'hare')[0]:
            self.write('nonsense\n')
            pid = status(mapper)['pid']
            done = mapper.upgraded()
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(self.path + ':1', done.stderr)
            self.assertEqual(status(mapper)['pid'], pid)
            # It is not taken for an older program, for which the registry would be copied.
            self.assertNotIn('in the layout of 0.1.0', mapper.log())
            self.write('access = list from none\n')
            self.assertEqual(mapper.upgraded().returncode, 0)
            self.assertFalse(self.lists(mapper))
            self.assertIsNotNone(mapper.lookup(b'hare'))

    def test_a_mapper_that_is_started_again_keeps_what_counted(self):
        self.write('access = list from none\n')
        mapper = self.mapper(kept=True)
        with mapper.register(b'hare', port=1)[0]:
            harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
            self.write('acess = list from none\n')
            self.kill(mapper)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            self.assertFalse(self.lists(mapper))
            self.assertIn('what counted before goes on', mapper.log())
            # Where nothing is known of what counted, nobody else is served.
            os.unlink(mapper.registry + '.settings')
            self.kill(mapper)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            self.assertIn('only this host is served', mapper.log())
            self.assertIn('connect from host', printed(mapper, 'config'))
            self.write('')
            printed(mapper, 'reload')
            self.assertTrue(self.lists(mapper))
            self.assertNotIn('connect from host', printed(mapper, 'config'))

    def test_what_is_wrong_together_only(self):
        """More origins than there may be, some in the options and some in the file."""
        def networks(first):
            return [f'10.{first}.{number}.0/24' for number in range(200)]
        self.write('')
        mapper = self.mapper(*[word for network in networks(1) for word in ('-allow', network)], kept=True)
        with mapper.register(b'hare', port=1)[0]:
            harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
            self.write(''.join(f'access = list from {network}\n' for network in networks(2)))
            self.assertNotEqual(epmdctl(mapper, 'reload').returncode, 0)
            self.kill(mapper)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            self.assertIn('what counted before goes on', mapper.log())

    def kill(self, mapper):
        old = status(mapper)['pid']
        os.kill(old, signal.SIGKILL)
        harness.wait_until(lambda: status(mapper)['pid'] != old, 'another mapper')
        harness.wait_until(lambda: json.loads(printed(mapper, '--json', 'config', codes=(0, 1, 3)) or '{}').get('running'),
                           'its settings are noted')

    def test_reloads_under_load(self):
        """No request fails while the workers pause for it."""
        self.write('')
        mapper = self.mapper('-workers', '2')
        with mapper.register(b'hare')[0]:
            for number in range(harness.scaled('RELOADS', 20)):
                self.write(f'packet_timeout = {number + 10}\n')
                reload = subprocess.Popen([harness.EPMDCTL, '--registry', mapper.registry, 'reload'],
                                          stdout=subprocess.DEVNULL, env=harness.clean_environment())
                while reload.poll() is None:
                    self.assertIsNotNone(mapper.lookup(b'hare'))
                self.assertEqual(reload.returncode, 0)

    @as_root_only
    def test_a_request_of_another_user_does_not_count(self):
        self.write('')
        mapper = self.mapper(kept=True)
        with open(mapper.registry + '.reload', 'w'):
            pass
        os.chmod(mapper.registry + '.reload', 0o666)
        os.kill(mapper.pid, signal.SIGHUP)
        harness.wait_until(lambda: (status(mapper)['last_upgrade'] or {}).get('outcome') == 'succeeded', 'an upgrade, as without it')
        harness.wait_until(lambda: not os.path.exists(mapper.registry + '.reload'), 'the request is taken')
        harness.wait_until(lambda: 'is not believed' in mapper.log(), 'that is said')
        self.assertNotIn('settings were read anew', mapper.log())
        printed(mapper, 'reload')

    def test_reloads_at_once(self):
        """None is taken for anything else, and each is told what became of its own."""
        self.write('')
        mapper = self.mapper(kept=True)
        pid = status(mapper)['pid']
        for _ in range(harness.scaled('RELOAD_PAIRS', 20)):
            asked = [self.asked(mapper, 'reload') for _ in range(3)]
            for process in asked:
                said, _ = process.communicate(timeout=harness.PATIENCE_S)
                self.assertEqual(process.returncode, 0, said)
        self.assertEqual(status(mapper)['pid'], pid)
        self.assertEqual(status(mapper)['last_upgrade'], None)

    def test_a_reload_that_comes_late(self):
        self.write('')
        mapper = self.mapper(kept=True)
        pid = status(mapper)['pid']
        os.kill(pid, signal.SIGSTOP)
        self.write('access = list from none\n')
        done = epmdctl(mapper, 'reload', '--timeout', '1')
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('it is done when the mapper comes to it', done.stderr)
        os.kill(pid, signal.SIGCONT)
        harness.wait_until(lambda: not self.lists(mapper), 'it is done')
        self.assertEqual(status(mapper)['pid'], pid)

    def test_a_mapper_that_lists_nothing_is_there(self):
        self.write('access = list from none\n')
        mapper = self.mapper()
        self.assertEqual(harness.run_epmd('-started', port=mapper.port).returncode, 0)
        report = json.loads(epmdctl(mapper, '--json', 'doctor').stdout)
        said, = [check for check in report['checks'] if check['check'] == 'mapper over TCP']
        self.assertEqual(said['result'], 'ok')
        self.assertIn('does not list its nodes', said['text'])
        self.assertFalse(report['failed'], report)

    def test_status_says_what_is_wrong_with_the_settings(self):
        self.write('')
        mapper = self.mapper()
        self.assertEqual(epmdctl(mapper, 'status', '--check').returncode, 0)
        self.write('nonsense\n')
        self.assertEqual(epmdctl(mapper, 'reload').returncode, 1)
        done = epmdctl(mapper, 'status', '--check')
        self.assertEqual(done.returncode, 1, done)
        self.assertIn('the last reload was refused', done.stdout)
        self.write('')
        printed(mapper, 'reload')
        self.assertEqual(epmdctl(mapper, 'status', '--check').returncode, 0)

    def test_a_line_that_an_option_hides(self):
        self.write('')
        mapper = self.mapper('-packet_timeout', '7')
        self.write('packet_timeout = 9\n')
        self.assertIn(f'{self.path}:1: packet_timeout = 9 has no effect: -packet_timeout goes before', printed(mapper, 'reload'))
        self.assertIn('has no effect', '\n'.join(self.check('-packet_timeout', '7')[1]))
        self.write('packet_timeout = 7\n')
        self.assertNotIn('has no effect', printed(mapper, 'reload'))

    def test_a_file_of_reservations_that_changes(self):
        reserved = os.path.join(self.directory, 'reserved')
        self.write('', reserved)
        self.write(f'reserve = @{reserved}\n')
        mapper = self.mapper()
        self.assertNotIn('has changed', printed(mapper, 'config'))
        self.write('hare=root\n', reserved)
        self.assertIn(f'{reserved} has changed', printed(mapper, 'config'))
        printed(mapper, 'reload')
        self.assertNotIn('has changed', printed(mapper, 'config'))

    def test_idle_exit_counts_from_when_it_was_set(self):
        self.write('')
        mapper = self.mapper()
        with mapper.register(b'hare')[0]:
            time.sleep(1.5)
        mapper.wait_gone(b'hare')
        self.write('idle_exit = 1\n')
        began = time.monotonic()
        printed(mapper, 'reload')
        mapper.wait()
        self.assertGreaterEqual(time.monotonic() - began, 0.9)

    @unittest.skipUnless(os.path.exists(harness.EPMD_FAULTS), 'no variant with fault points in this build')
    def test_a_reload_during_an_upgrade(self):
        """The successor does it: it may have read the files before they changed."""
        self.write('')
        mapper = self.mapper(kept=True, binary=harness.EPMD_FAULTS, env={'EPMD_FAULTS': 'successor:prepared=stop'})
        old = mapper.mapper_pid()
        with mapper.register(b'hare')[0]:
            os.kill(old, signal.SIGHUP)
            def successor():
                return next((pid for pid in mapper.family() - {old, mapper.pid} if state_of(pid) == 'T'), None)
            new = harness.wait_until(successor, 'the successor stops, which has read the files')
            self.write('access = list from none\n')
            reload = self.asked(mapper, 'reload')
            harness.wait_until(lambda: os.path.exists(mapper.registry + '.reload'), 'the request is there')
            time.sleep(0.2)
            self.assertIsNone(reload.poll())
            self.assertTrue(self.lists(mapper))
            os.kill(new, signal.SIGCONT)
            self.assertIn('taken over', reload.communicate(timeout=harness.PATIENCE_S)[0])
            self.assertEqual(status(mapper)['pid'], new)
            self.assertFalse(self.lists(mapper))
            self.assertIsNotNone(mapper.lookup(b'hare'))

    def test_a_reload_and_an_upgrade_at_once(self):
        self.write('')
        mapper = self.mapper(kept=True)
        old = mapper.mapper_pid()
        with mapper.register(b'hare')[0]:
            os.kill(old, signal.SIGSTOP)
            self.write('access = list from none\n')
            asked = [self.asked(mapper, 'reload'), self.asked(mapper, 'upgrade')]
            harness.wait_until(lambda: os.path.exists(mapper.registry + '.reload'), 'the request is there')
            harness.wait_until(lambda: all('S' in state_of(process.pid) for process in asked), 'both wait')
            os.kill(old, signal.SIGCONT)
            for process in asked:
                said, _ = process.communicate(timeout=harness.PATIENCE_S)
                self.assertEqual(process.returncode, 0, said)
            self.assertNotEqual(status(mapper)['pid'], old)
            self.assertFalse(self.lists(mapper))
            self.assertIsNotNone(mapper.lookup(b'hare'))

    def asked(self, mapper, *args):
        """epmdctl, which waits for its outcome meanwhile."""
        process = subprocess.Popen([harness.EPMDCTL, '--registry', mapper.registry, *args], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, env=harness.clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process

    def test_reserved_names_that_cannot_be_read_any_more(self):
        reserved = os.path.join(self.directory, 'reserved')
        self.write(f'hare={os.getuid()}\nfox=64109\n', reserved)
        self.write(f'reserve = wolf={os.getuid()}\nreserve = @{reserved}\n')
        mapper = self.mapper(kept=True)
        with mapper.register(b'hare', port=1)[0]:
            harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
            os.unlink(reserved)
            self.kill(mapper)
            self.assertIsNotNone(mapper.lookup(b'hare'))
            self.assertIn('which names are reserved is not known', mapper.log())
            # fox is another user's, and lynx might be.
            self.assertEqual([self.registered(mapper, name) for name in (b'fox', b'lynx', b'wolf')], [False, False, True])
            self.write('', reserved)
            printed(mapper, 'reload')
            self.assertTrue(self.registered(mapper, b'lynx'))

    def registered(self, mapper, name):
        connection, reply = mapper.alive2(name)
        connection.close()
        return harness.alive2_result(reply)[0] == 0

    @as_root_only
    def test_a_user_who_cannot_be_found_out_any_more(self):
        """As when a directory service does not answer: the mapper that is started again has the number from the one before."""
        passwd = os.path.join(self.directory, 'passwd')
        shutil.copy('/etc/passwd', passwd)
        with open(passwd, 'a') as file:
            file.write(f'evermap-alice:x:{ALICE}:{ALICE}::/:/bin/false\n')
        self.write('reserve = hare=evermap-alice\naccess = list from user:evermap-alice\n')
        mapper = self.mapper(kept=True, prefix=['unshare', '--mount', 'sh', '-c', f'mount --bind {passwd} /etc/passwd && exec "$@"', '-'])
        os.chmod(mapper.directory, 0o755)
        with user(ALICE), mapper.register(b'hare', port=1)[0]:
            os.seteuid(0)
            harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
            shutil.copy('/etc/passwd', passwd)
            self.kill(mapper)
            self.assertNotIn('does not know', mapper.log())
            self.assertFalse(self.lists(mapper))
            os.seteuid(ALICE)
            self.assertTrue(self.lists(mapper))
        self.assertEqual(epmdctl(mapper, 'reload').returncode, 1)


class DoctorTest(SettingsTest):
    """What counts is not what the files say."""

    def settings(self, mapper):
        """[(result, text)] of the checks of the settings."""
        done = epmdctl(mapper, '--json', 'doctor')
        return [(check['result'], check['text']) for check in json.loads(done.stdout)['checks'] if check['check'] == 'settings']

    def assert_warned(self, mapper, text):
        (result, said), = self.settings(mapper)
        self.assertEqual(result, 'warning')
        self.assertIn(text, said)

    def test_files_that_come_change_and_go(self):
        self.write('')
        mapper = self.mapper()
        (result, said), = self.settings(mapper)
        self.assertEqual((result, self.path in said), ('ok', True), said)
        self.drop_in('a.conf', 'packet_timeout = 7\n')
        self.drop_in('a.conf.bak', '')
        self.assert_warned(mapper, self.path + '.d/a.conf')
        printed(mapper, 'reload')
        self.assertEqual([result for result, _ in self.settings(mapper)], ['ok'])
        self.write('packet_timeout = 8\n')
        self.assert_warned(mapper, self.path)
        printed(mapper, 'reload')
        os.unlink(self.path + '.d/a.conf')
        self.assert_warned(mapper, self.path + '.d/a.conf')

    def test_a_reload_that_was_refused(self):
        self.write('')
        mapper = self.mapper()
        self.write('nonsense\n')
        self.assertEqual(epmdctl(mapper, 'reload').returncode, 1)
        self.assertEqual([result for result, _ in self.settings(mapper)], ['warning'] * 2)
        self.assertIn(self.path + ':1', self.settings(mapper)[0][1])

    def test_what_has_no_effect_yet(self):
        self.write('')
        mapper = self.mapper()
        self.write('capacity = 1000\n')
        printed(mapper, 'reload')
        self.assert_warned(mapper, 'capacity = 1000')

    def test_no_file(self):
        mapper = self.mapper(env={'ERL_EPMD_CONFIG': 'none'})
        self.assertEqual(self.settings(mapper), [('ok', 'no file of settings is read')])


class InheritedTest(SettingsTest):

    def served_through(self, listeners, *args):
        """A mapper that is passed these sockets, as by systemd."""
        registry = os.path.join(self.directory, 'registry')
        numbers = [listener.fileno() for listener in listeners]

        def pass_them():
            copies = [os.dup(number) for number in numbers]
            for at, copy in enumerate(copies):
                os.dup2(copy, 3 + at)
                os.set_inheritable(3 + at, True)
        starter = ('import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1]); '
                   'os.execv(sys.argv[2], sys.argv[2:])')
        log = open(os.path.join(self.directory, 'log'), 'w+')
        self.addCleanup(log.close)
        process = subprocess.Popen(
            ['python3', '-c', starter, str(len(listeners)), harness.EPMD, '-no_keeper', '-registry', registry, *args],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=pass_them, close_fds=False,
            env=harness.clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        mapper = harness.Client(listeners[0].getsockname()[1])
        mapper.registry = registry
        harness.wait_until(lambda: epmdctl(mapper, 'config').returncode == 0, 'its settings are noted')
        wait_for_logs(process.pid)
        log.seek(0)
        return mapper, log.read()

    def listener(self, address=harness.HOST):
        listener = socket.create_server((address, 0))
        self.addCleanup(listener.close)
        return listener

    def test_what_has_no_effect_is_said(self):
        listener = self.listener()
        mapper, log = self.served_through([listener], '-systemd', '-port', '4371', '-address', '192.0.2.7')
        self.assertIn('port 4371 (-port) has no effect', log)
        self.assertIn('address 192.0.2.7 (-address) has no effect', log)
        # What it says of itself is true.
        self.assertIn(struct_port(listener), mapper.request(b'n'))
        self.assertEqual(config(mapper)['port'], [(str(mapper.port), 'socket', None)])
        self.assertIn('has no effect', printed(mapper, 'config'))

    def test_what_fits_is_not(self):
        listener = self.listener()
        _, log = self.served_through([listener], '-systemd', '-port', str(listener.getsockname()[1]), '-address', harness.HOST)
        self.assertNotIn('no effect', log)


def struct_port(listener):
    """The first bytes of NAMES."""
    return listener.getsockname()[1].to_bytes(4, 'big')


class IdleExitTest(SettingsTest):

    def test_ends_after_the_last_node(self):
        self.write('')
        mapper = self.mapper('-idle_exit', '2', kept=True)
        with mapper.register(b'hare')[0]:
            time.sleep(4)
            self.assertIsNotNone(mapper.lookup(b'hare'))
        began = time.monotonic()
        self.assertEqual(mapper.wait(), 0)
        self.assertGreater(time.monotonic() - began, 1)
        self.assertIn('ends: no node has been registered for 2 s', mapper.log())

    def test_one_that_nobody_uses_ends_too(self):
        self.write('idle_exit = 1\n')
        mapper = self.mapper()
        self.assertEqual(mapper.wait(), 0)

    def test_lookups_do_not_keep_it_and_nodes_that_come_and_go_do(self):
        self.write('idle_exit = 2\n')
        mapper = self.mapper()
        for _ in range(8):
            mapper.register(b'hare')[0].close()
            time.sleep(0.5)
        self.assertTrue(mapper.alive())

        def ended():
            try:
                # One that comes while it ends is closed.
                mapper.request(b'zhare')
            except OSError:
                pass
            return not mapper.alive()
        harness.wait_until(ended, 'its end')

    def test_off_by_default_and_by_reload(self):
        self.write('idle_exit = 2\n')
        mapper = self.mapper()
        self.write('')
        printed(mapper, 'reload')
        time.sleep(4)
        self.assertTrue(mapper.alive())
        self.write('idle_exit = 1\n')
        printed(mapper, 'reload')
        self.assertEqual(mapper.wait(), 0)


if __name__ == '__main__':
    unittest.main()
