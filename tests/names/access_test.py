"""Who a node is, who may take a name (-reserve), and who may ask from outside (-allow).

Users are other effective user ids of this process: a socket belongs to the one that made it. Hosts are network
namespaces. Most of it needs root.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import as_root_only
from harness.epmdctl import lookup, printed, status
from harness.network import user

# Users that no machine has, so that they have no names.
ALICE = 64101
BOB = 64102


def upgrade(mapper):
    """To the same program. REQUIRES: it has a keeper."""
    old = status(mapper)['pid']
    printed(mapper, 'upgrade')
    harness.wait_until(lambda: not harness.process_exists(old), 'the end of the old mapper')


def owner_of(mapper, name):
    """The node as epmdctl shows it; the mapper finds out whose it is some milliseconds after the reply."""
    return harness.wait_until(lambda: (node := lookup(mapper, name))['uid'] is not None and node, f'the user of {name}')


class OwnerTest(unittest.TestCase):

    def setUp(self):
        self.mapper = self._mapper()

    def _mapper(self, **options):
        mapper = harness.Mapper(**options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def test_this_user(self):
        listener = socket.create_server((harness.HOST, 0))
        self.addCleanup(listener.close)
        with self.mapper.register(b'hare', port=listener.getsockname()[1])[0]:
            node = owner_of(self.mapper, 'hare')
            self.assertEqual(node['uid'], os.geteuid())
            harness.wait_until(lambda: lookup(self.mapper, 'hare')['pid'] == os.getpid(),
                               'the process')
            self.assertRegex(printed(self.mapper, 'list'), rf'hare .* {os.getpid()}  live\n')

    def test_a_node_without_a_listener(self):
        with self.mapper.register(b'hare', port=1)[0]:
            self.assertIsNone(owner_of(self.mapper, 'hare')['pid'])

    @as_root_only
    def test_other_users(self):
        with user(ALICE):
            alice = self.mapper.register(b'hare')[0]
        with alice, self.mapper.register(b'rabbit')[0]:
            node = owner_of(self.mapper, 'hare')
            self.assertEqual((node['uid'], node['user']), (ALICE, None))
            node = owner_of(self.mapper, 'rabbit')
            self.assertEqual((node['uid'], node['user']), (0, 'root'))
            self.assertRegex(printed(self.mapper, 'list'), rf'hare .* {ALICE} +- +live\nrabbit .* root +- +live\n')

    @as_root_only
    def test_ipv6(self):
        mapper = self._mapper(address='::1', host='::1')
        with user(BOB):
            bob = mapper.register(b'hare')[0]
        with bob:
            self.assertEqual(owner_of(mapper, 'hare')['uid'], BOB)

    @as_root_only
    def test_ipv4_in_ipv6(self):
        mapper = self._mapper(address=None)
        with user(BOB):
            bob = socket.socket(socket.AF_INET6)
        with bob:
            bob.connect(('::ffff:127.0.0.1', mapper.port))
            bob.sendall(harness.frame(harness.alive2_body(b'hare')))
            self.assertEqual(harness.alive2_result(harness.receive_alive2_reply(bob))[0], 0)
            self.assertEqual(owner_of(mapper, 'hare')['uid'], BOB)

    @harness.have_erlang
    def test_erlang(self):
        directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        with harness.ErlangNode('hare', self.mapper.port, directory) as node:
            self.mapper.wait_registered(b'hare')
            self.assertEqual(owner_of(self.mapper, 'hare')['uid'], os.geteuid())
            harness.wait_until(lambda: lookup(self.mapper, 'hare')['pid'] == node.pid,
                               'the process of the node')

    def test_after_a_restart(self):
        node = self.mapper.register(b'hare', port=1)[0]
        with node:
            owner_of(self.mapper, 'hare')
            self.mapper.stop()
            self.mapper.start()
            self.assertEqual(owner_of(self.mapper, 'hare')['uid'], os.geteuid())

    def test_a_restart_before_it_is_known(self):
        mapper = self._mapper(keeper=True)
        with mapper.register(b'hare', port=1)[0]:
            harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
            upgrade(mapper)
            self.assertEqual(owner_of(mapper, 'hare')['uid'], os.geteuid())


def start_fails(*args):
    """The line that a mapper says which does not start for its options."""
    done = harness.run_epmd('-no_keeper', *args, port=harness.free_port())
    if done.returncode != 1:
        raise AssertionError(done)
    return harness.one_line(done)


class ReserveTest(unittest.TestCase):

    def mapper(self, *reserved, **options):
        mapper = harness.Mapper(args=[argument for value in reserved for argument in ('-reserve', value)], **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def refused(self, mapper, name, **description):
        connection, reply = mapper.alive2(name, **description)
        with connection:
            self.assertEqual(harness.alive2_result(reply), (1, harness.REFUSED_CREATION))
            self.assertTrue(harness.sees_close(connection))

    @as_root_only
    def test_only_that_user(self):
        mapper = self.mapper(f'hare={ALICE}', 'rabbit=root')
        with user(BOB):
            self.refused(mapper, b'hare')
            self.refused(mapper, b'rabbit')
            # Of others' names and of longer ones nothing is said.
            mapper.register(b'hare2')[0].close()
        self.assertRegex(mapper.log(), f'node hare is refused: its name is reserved for user {ALICE}, and user {BOB} asked')
        # Root is another user.
        self.refused(mapper, b'hare')
        with user(ALICE):
            alice = mapper.register(b'hare')[0]
        with alice, mapper.register(b'rabbit')[0]:
            self.assertIsNotNone(mapper.lookup(b'hare'))
            # Lookups are everybody's.
            with user(BOB):
                self.assertIsNotNone(mapper.lookup(b'hare'))

    @as_root_only
    def test_the_log_is_bounded(self):
        mapper = self.mapper(f'hare={ALICE}')
        for _ in range(50):
            self.refused(mapper, b'hare')
        self.assertLess(mapper.log().count('hare is refused'), 40)

    @as_root_only
    def test_old_protocol(self):
        mapper = self.mapper(f'hare={ALICE}')
        connection, reply = mapper.alive2(b'hare', highest=5)
        with connection:
            self.assertEqual(reply[:2], b'y\x01')

    @as_root_only
    def test_who_has_closed_is_nobody(self):
        # The kernel says of a closed socket that it is root's.
        mapper = self.mapper('hare=root')
        with user(BOB):
            for _ in range(100):
                with mapper.connect() as connection:
                    connection.sendall(harness.frame(harness.alive2_body(b'hare')))
        self.assertEqual([line for line in mapper.dump() if b'hare' in line], [])

    @as_root_only
    def test_ipv6_and_a_file(self):
        with tempfile.NamedTemporaryFile('w', prefix='evermap-test-') as reserved:
            reserved.write(f'# whose\n\nhare = {ALICE}\nrabbit={BOB}\n')
            reserved.flush()
            mapper = self.mapper('@' + reserved.name, address='::1', host='::1')
        with user(ALICE):
            self.refused(mapper, b'rabbit')
            mapper.register(b'hare')[0].close()

    @as_root_only
    def test_upgrade(self):
        mapper = self.mapper(f'hare={ALICE}', keeper=True)
        with user(ALICE):
            alice = mapper.register(b'hare')[0]
        with alice:
            creation = lookup(mapper, 'hare')['creation']
            upgrade(mapper)
            self.assertEqual(lookup(mapper, 'hare')['creation'], creation)
        mapper.wait_gone(b'hare')
        self.refused(mapper, b'hare')
        with user(ALICE):
            mapper.register(b'hare')[0].close()

    def test_upgrade_to_what_cannot_be_read(self):
        with tempfile.NamedTemporaryFile('w', prefix='evermap-test-') as reserved:
            reserved.write(f'rabbit={os.geteuid()}\n')
            reserved.flush()
            mapper = self.mapper('@' + reserved.name, keeper=True)
            old = status(mapper)['pid']
            reserved.write('nonsense\n')
            reserved.flush()
            printed(mapper, 'upgrade', codes=(1,))
            self.assertIn('nonsense', status(mapper)['last_upgrade']['text'])
            self.assertEqual(status(mapper)['pid'], old)
            mapper.register(b'rabbit')[0].close()

    @as_root_only
    def test_adoption(self):
        """An orphan's name goes back to its user, with the same creation, and to nobody else."""
        mapper = self.mapper(f'hare={ALICE}')
        with user(ALICE):
            listener = socket.create_server((harness.HOST, 0))
            self.addCleanup(listener.close)
            port = listener.getsockname()[1]
            alice, creation = mapper.register(b'hare', port=port)
        owner_of(mapper, 'hare')
        harness.wait_until(lambda: lookup(mapper, 'hare')['pid'], 'the listener')
        mapper.stop()
        alice.close()
        mapper.start()
        harness.wait_until(lambda: lookup(mapper, 'hare')['state'] == 'orphaned', 'it is known that nobody handed it over')
        with user(BOB):
            self.refused(mapper, b'hare', port=port)
        with user(ALICE):
            again, same = mapper.register(b'hare', port=port)
        with again:
            self.assertEqual(same, creation)
            self.assertEqual(owner_of(mapper, 'hare')['uid'], ALICE)

    @as_root_only
    def test_from_another_network_namespace(self):
        """The mapper runs in one, its listening socket (epmd.socket with PrivateNetwork=) is in another."""
        hosts = harness.TwoHosts()
        self.addCleanup(hosts.close)
        listener = socket.create_server((harness.HOST, 0))
        self.addCleanup(listener.close)

        def pass_listener():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)

        starter = ('import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1"); '
                   'os.execv(sys.argv[1], sys.argv[1:])')
        directory = tempfile.mkdtemp(prefix='evermap-test-')
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*hosts.server_prefix, 'python3', '-c', starter, harness.EPMD, '-systemd', '-no_keeper', '-port', str(port),
             '-registry', os.path.join(directory, 'registry'), '-loop', harness.LOOP, '-reserve', 'hare=root'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pass_listener,
            close_fds=False, env=harness.clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        mapper = harness.Client(port)
        with mapper.register(b'rabbit')[0]:
            self.refused(mapper, b'hare')

    @as_root_only
    def test_in_a_user_namespace(self):
        """Who has no number there is not the user of the number that the kernel gives all of them."""
        namespace = ['unshare', '--user', '--map-root-user']
        if subprocess.run([*namespace, 'true'], capture_output=True, check=False).returncode != 0:
            self.skipTest('no user namespaces here')
        mapper = self.mapper('hare=65534', 'rabbit=root', prefix=namespace)
        with mapper.register(b'rabbit')[0]:
            self.assertEqual(owner_of(mapper, 'rabbit')['uid'], 0)
            with user(ALICE):
                self.refused(mapper, b'hare')
                fox = mapper.register(b'fox', port=1)[0]
            with fox:
                # After it another one is looked at.
                with mapper.register(b'dog')[0]:
                    owner_of(mapper, 'dog')
                    self.assertIsNone(lookup(mapper, 'fox')['uid'])

    def test_start_fails(self):
        self.assertIn('NAME=USER', start_fails('-reserve', 'hare'))
        self.assertIn('does not know', start_fails('-reserve', 'hare=no-such-user-here'))
        self.assertIn('/no/such/file', start_fails('-reserve', '@/no/such/file'))
        self.assertIn('needs a value', start_fails('-reserve'))

    @as_root_only
    def test_what_became_bad_does_not_end_a_mapper_that_is_started_again(self):
        with tempfile.NamedTemporaryFile('w', prefix='evermap-test-') as reserved:
            reserved.write(f'rabbit={BOB}\n')
            reserved.flush()
            mapper = self.mapper('@' + reserved.name, keeper=True)
            with mapper.register(b'hare', port=1)[0]:
                reserved.write('fox=no-such-user-here\n')
                reserved.flush()
                harness.wait_until(lambda: status(mapper)['counters']['stored'], 'the connection is stored')
                old = status(mapper)['pid']
                os.kill(old, signal.SIGKILL)
                harness.wait_until(lambda: status(mapper)['pid'] != old, 'another mapper')
                self.assertIsNotNone(mapper.lookup(b'hare'))
                self.refused(mapper, b'rabbit')
                self.refused(mapper, b'fox')
                self.assertIn('does not know', mapper.log())


class AllowTest(unittest.TestCase):

    def hosts(self):
        hosts = harness.TwoHosts()
        self.addCleanup(hosts.close)
        return hosts

    def mapper(self, hosts, *allowed, **options):
        options.setdefault('host', hosts.server_address)
        mapper = harness.Mapper(args=[argument for value in allowed for argument in ('-allow', value)], address=None,
                                prefix=hosts.server_prefix, **options)
        self.addCleanup(mapper.close)
        with hosts.on_server():
            return mapper.start()

    def served(self, mapper):
        try:
            return mapper.request(b'n') != b''
        except OSError:
            return False

    @as_root_only
    def test_networks(self):
        hosts = self.hosts()
        for allowed, served in (((), True), (('10.231.77.0/24',), True), (('10.231.77.2',), True), (('10.231.77.4/30',), False),
                                (('192.0.2.0/24,10.231.77.2/31',), True), (('192.0.2.0/24', '10.0.0.0/8'), True),
                                (('::ffff:10.231.77.0/120',), True), (('127.0.0.0/8',), False), (('::/0',), False)):
            with self.subTest(allowed=allowed):
                mapper = self.mapper(hosts, *allowed)
                with hosts.on_client():
                    self.assertEqual(self.served(mapper), served)
                self.assertEqual('-allow' in mapper.log(), not served)
                # This host, by either address.
                with hosts.on_server():
                    self.assertTrue(self.served(mapper))
                    self.assertTrue(self.served(harness.Client(mapper.port)))
                    self.assertTrue(self.served(harness.Client(mapper.port, host='::1')))
                    mapper.register(b'hare')[0].close()
                    harness.Client(mapper.port).register(b'rabbit')[0].close()
                mapper.close()

    @as_root_only
    def test_ipv6(self):
        hosts = self.hosts()
        hosts.add_ipv6('fd00:77::1', 'fd00:77::2')
        for allowed, served in (('fd00:77::/64', True), ('fd00:77::4/126', False), ('0.0.0.0/0', False)):
            with self.subTest(allowed=allowed):
                mapper = self.mapper(hosts, allowed, host='fd00:77::1')
                with hosts.on_client():
                    self.assertEqual(self.served(mapper), served)
                with hosts.on_server():
                    self.assertTrue(self.served(mapper))
                mapper.close()

    @as_root_only
    def test_closed_before_anything_is_read(self):
        hosts = self.hosts()
        mapper = self.mapper(hosts, '192.0.2.0/24')
        with hosts.on_client():
            for _ in range(20):
                with mapper.connect() as connection:
                    self.assertTrue(harness.sees_close(connection))
        # Who asks again and again does not fill a disk.
        self.assertEqual(mapper.log().count('-allow'), 1)
        self.assertEqual(status(mapper)['counters']['closed_not_allowed'], 20)

    @as_root_only
    def test_upgrade(self):
        hosts = self.hosts()
        mapper = self.mapper(hosts, '192.0.2.0/24', keeper=True)
        upgrade(mapper)
        with hosts.on_client():
            self.assertFalse(self.served(mapper))
        with hosts.on_server():
            self.assertTrue(self.served(mapper))

    def test_start_fails(self):
        for value in ('10.0.0.0/33', '10.0.0.1/8', 'nonsense', '', '::/129'):
            self.assertIn('-allow', start_fails('-allow', value))


if __name__ == '__main__':
    unittest.main()
