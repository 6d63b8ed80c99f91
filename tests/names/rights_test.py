"""Who may ask for what (access): every verb, asked by everybody, under each rule, against a model of the rules.

Hosts are network namespaces, users other effective user ids of this process. What a mapper answers is compared with a
model that is written down here once more: a table of who is what, and three lines of rules.
"""

import contextlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import as_root_only
from harness.epmdctl import printed, status
from harness.network import user

ALICE = 64101
BOB = 64102

SERVER_A, HOST_A = harness.TwoHosts.server_address, harness.TwoHosts.client_address
SERVER_A6, HOST_A6 = 'fd00:77::1', 'fd00:77::2'
SERVER_B, HOST_B = '10.231.78.1', '10.231.78.2'
NETWORK_A, NETWORK_A6 = '10.231.77.0/24', 'fd00:77::/64'

VERBS = ('lookup', 'list', 'register', 'dump', 'kill', 'stop')
EVERYBODY = {'connect', 'lookup', 'list'}
NOBODY = {'stop'}

# Whoever asks: where from, as whom, to which address; and what he is by the words of rules.
ASKERS = {
    'alice, loopback': ('server', ALICE, '127.0.0.1', {'all', 'host', 'loopback', f'user:{ALICE}'}),
    'bob, loopback': ('server', BOB, '127.0.0.1', {'all', 'host', 'loopback', f'user:{BOB}'}),
    'root, other loopback': ('server', 0, '127.0.0.9', {'all', 'host', 'loopback', 'user:root'}),
    'alice, ::1': ('server', ALICE, '::1', {'all', 'host', 'loopback', f'user:{ALICE}'}),
    'alice, mapped loopback': ('server', ALICE, '::ffff:127.0.0.1', {'all', 'host', 'loopback', f'user:{ALICE}'}),
    'bob, own address': ('server', BOB, SERVER_A, {'all', 'host', NETWORK_A, f'user:{BOB}'}),
    'bob, own address mapped': ('server', BOB, '::ffff:' + SERVER_A, {'all', 'host', NETWORK_A, f'user:{BOB}'}),
    'alice, own IPv6 address': ('server', ALICE, SERVER_A6, {'all', 'host', NETWORK_A6, f'user:{ALICE}'}),
    'host A': ('A', ALICE, SERVER_A, {'all', NETWORK_A}),
    'host A, mapped': ('A', 0, '::ffff:' + SERVER_A, {'all', NETWORK_A}),
    'host A, IPv6': ('A', 0, SERVER_A6, {'all', NETWORK_A6}),
    'host B': ('B', ALICE, SERVER_B, {'all'}),
}
# What counts them. A node of this host that is refused is told so, and counts as a node that is refused, too.
REFUSALS = ('alive2_not_local', 'port2_refused', 'names_refused', 'dump_refused', 'kill_refused', 'stop_refused',
            'closed_not_allowed')
WHO = ('all', 'host', 'loopback', NETWORK_A, NETWORK_A6, f'user:{ALICE}', 'none')


def model(rules, relaxed, asker, verb):
    """Whether `asker` may `verb`, where rules are {verb: who}."""
    what = ASKERS[asker][3]

    def has(right):
        if right in rules:
            return bool(rules[right] & what)
        if right in NOBODY:
            return relaxed and 'host' in what
        return right in EVERYBODY or 'host' in what
    return has('connect') and has(verb)


class Asking:
    """Everybody who asks a mapper."""

    def __init__(self, hosts, on_b, port):
        self._places = {'server': hosts.on_server, 'A': hosts.on_client, 'B': on_b}
        self._port = port
        self._number = itertools.count()

    def _answer(self, address, body):
        with contextlib.closing(socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)) as connection:
            connection.settimeout(harness.PATIENCE_S)
            connection.connect((address, self._port))
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(harness.frame(body))
                if body[:1] == b'x':
                    return harness.receive_alive2_reply(connection)
            return harness.receive_all(connection)

    def _may(self, address, verb):
        if verb == 'register':
            reply = self._answer(address, harness.alive2_body(b'new%d' % next(self._number)))
            return reply != b'' and harness.alive2_result(reply)[0] == 0
        body = {'lookup': b'zhare', 'list': b'n', 'dump': b'd', 'kill': b'k', 'stop': b'snobody'}[verb]
        return self._answer(address, body) != b''

    def all(self):
        """{(asker, verb): whether he may}"""
        found = {}
        for place, enter in self._places.items():
            with enter():
                for asker, (where, uid, address, _) in ASKERS.items():
                    if where != place:
                        continue
                    with user(uid):
                        found.update({(asker, verb): self._may(address, verb) for verb in VERBS})
        return found


@as_root_only
class RightsTest(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.path = os.path.join(self.directory, 'epmd.conf')
        self.registry = os.path.join(self.directory, 'registry')
        self.hosts = harness.TwoHosts()
        self.addCleanup(self.hosts.close)
        self.hosts.add_ipv6(SERVER_A6, HOST_A6)
        self.on_b = self.hosts.add_host(SERVER_B, HOST_B)
        self.write({}, False)

    def write(self, rules, relaxed):
        with open(self.path, 'w') as file:
            for verb, who in rules.items():
                file.write(f'access = {verb} from {" ".join(sorted(who))}\n')
            if relaxed:
                file.write('relaxed_command_check = true\n')

    def own_sockets(self):
        mapper = harness.Mapper(args=['-workers', '2'], address=None, prefix=self.hosts.server_prefix, registry=self.registry,
                                env={'ERL_EPMD_CONFIG': self.path}, host=SERVER_A)
        self.addCleanup(mapper.close)
        with self.hosts.on_server():
            return mapper.start()

    def inherited_sockets(self):
        """As systemd with BindIPv6Only=both: one socket for both families, to which IPv4 comes as ::ffff:..."""
        with self.hosts.on_server():
            listener = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.addCleanup(listener.close)
        starter = ('import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); '
                   'os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1"); os.execv(sys.argv[2], sys.argv[2:])')
        process = subprocess.Popen(
            [*self.hosts.server_prefix, 'python3', '-c', starter, str(listener.fileno()), harness.EPMD, '-systemd', '-no_keeper',
             '-loop', harness.LOOP, '-registry', self.registry],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[listener.fileno()],
            env=harness.clean_environment(ERL_EPMD_CONFIG=self.path))
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        mapper = harness.Client(listener.getsockname()[1], SERVER_A)
        mapper.registry = self.registry
        with self.hosts.on_server():
            mapper.request(b'n')
        return mapper

    def rule_sets(self):
        yield {}, False
        yield {}, True
        for verb in ('connect', *VERBS):
            for who in WHO:
                if verb == 'register' and who in ('all', NETWORK_A, NETWORK_A6):
                    continue  # refused, which the options' test shows
                yield {verb: {who}}, False
        chance = random.Random(4369)
        for _ in range(harness.scaled('RULE_SETS', 40, least=10)):
            rules = {}
            for verb in chance.sample(('connect', *VERBS), chance.randint(1, 5)):
                choice = [who for who in WHO if who != 'none' and
                          (verb != 'register' or who in ('host', 'loopback', f'user:{ALICE}'))]
                rules[verb] = set(chance.sample(choice, chance.randint(1, min(3, len(choice)))))
            yield rules, chance.random() < 0.5

    def against_the_model(self, mapper):
        asking = Asking(self.hosts, self.on_b, mapper.port)
        # Somebody is registered, so that KILL is answered and ends nothing.
        with self.hosts.on_server():
            connection = mapper.register(b'hare')[0]
        with connection:
            refused = 0
            for rules, relaxed in self.rule_sets():
                if relaxed:
                    # A KILL that may be asked for would end the mapper.
                    rules = {**rules, 'kill': {'none'}}
                with self.subTest(rules=rules, relaxed=relaxed):
                    self.write(rules, relaxed)
                    printed(mapper, 'reload')
                    found = asking.all()
                    wanted = {(asker, verb): model(rules, relaxed, asker, verb) for asker in ASKERS for verb in VERBS}
                    self.assertEqual({key: may for key, may in found.items() if wanted[key] != may}, {})
                    refused += list(wanted.values()).count(False)
            counters = status(mapper)['counters']
            self.assertEqual(sum(count for name, count in counters.items() if name in REFUSALS), refused)
            self.assertEqual(counters['closed_malformed'], 0)

    def test_own_sockets(self):
        self.against_the_model(self.own_sockets())

    def test_inherited_sockets(self):
        self.against_the_model(self.inherited_sockets())

    def test_names_of_users(self):
        """register:NAME goes before register."""
        self.write({f'register:hare': {f'user:{ALICE}', f'user:{BOB}'}, 'register': {f'user:{BOB}'}, 'register:fox': {'none'}}, False)
        mapper = self.own_sockets()
        asking = Asking(self.hosts, self.on_b, mapper.port)
        may = {}
        with self.hosts.on_server():
            for uid, name in itertools.product((ALICE, BOB, 0), (b'hare', b'fox', b'dog')):
                with user(uid):
                    reply = asking._answer('127.0.0.1', harness.alive2_body(name))
                    may[uid, name] = harness.alive2_result(reply)[0] == 0
        self.assertEqual({key for key, is_so in may.items() if is_so}, {(ALICE, b'hare'), (BOB, b'hare'), (BOB, b'dog')})
        self.assertIn(f'reserved for user {ALICE}, {BOB}', mapper.log())
        with self.hosts.on_client():
            self.assertEqual(asking._answer(SERVER_A, harness.alive2_body(b'hare')), b'')

    def test_a_health_check_does_not_fill_a_disk(self):
        self.write({'list': {'host'}}, False)
        mapper = self.own_sockets()
        with self.hosts.on_client():
            for _ in range(300):
                self.assertEqual(mapper.request(b'n'), b'')
        self.assertEqual(mapper.log().count('refused'), 1)
        self.assertIn(f'list is refused to {HOST_A}', mapper.log())
        self.assertEqual(status(mapper)['counters']['names_refused'], 300)

    def nmap(self, *args):
        done = subprocess.run(['nmap', '-n', '-Pn', *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    @unittest.skipIf(shutil.which('nmap') is None, 'needs nmap')
    def test_what_nmap_sees(self):
        mapper = self.own_sockets()
        with self.hosts.on_server():
            connection = mapper.register(b'hare', port=5000)[0]
        # The script looks for ports whose service is called epmd.
        script = ['--script', '+epmd-info', '-p', str(mapper.port), SERVER_A]
        with connection:
            for rules, open_, listed in (({}, True, True), ({'list': {'host'}}, True, False), ({'connect': {'host'}}, True, False),
                                         ({'list': {'host', NETWORK_A}}, True, True)):
                with self.subTest(rules=rules):
                    self.write(rules, False)
                    printed(mapper, 'reload')
                    with self.hosts.on_client():
                        said = self.nmap(*script)
                    self.assertEqual(f'{mapper.port}/tcp open' in said, open_, said)
                    self.assertEqual('hare: 5000' in said, listed, said)
                    if not listed:
                        self.assertNotIn('hare', said)
            self.write({'list': {'host'}}, False)
            printed(mapper, 'reload')
            with self.hosts.on_client():
                # A scanner of services sends all that it knows, and is told nothing but that somebody listens.
                said = self.nmap('-sV', '--version-light', '-p', str(mapper.port), SERVER_A)
                self.assertNotIn('hare', said)
                self.assertIsNotNone(mapper.lookup(b'hare'))


if __name__ == '__main__':
    unittest.main()
