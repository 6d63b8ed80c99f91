"""Who may have the name of a node that has lost its connection with the mapper (INV-13).

Users are other effective user ids of this process: a socket belongs to the one that made it. All of it needs root.
"""

import ctypes
import itertools
import os
import signal
import socket
import time
import unittest

import harness
from harness import as_root_only
from harness.epmdctl import lookup, status
from harness.network import own_network, user
from harness.seccomp import refuse_netlink

# Users that no machine has.
OWNER = 64101
OTHER = 64102
ROOT = 0

ANOTHER_PORT = 9


def hide_net():
    """This process, and what it becomes, has no /proc/net. It is one without netlink, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x00020000, 16384, 1 << 18
    if (libc.unshare(clone_newns) != 0 or
            libc.mount(None, b'/', None, ctypes.c_ulong(ms_rec | ms_private), None) != 0 or
            libc.mount(b'none', b'/proc/%d/net' % os.getpid(), b'tmpfs', ctypes.c_ulong(0), None) != 0):
        os._exit(98)
    refuse_netlink()


# What a mapper can find out: {name: what is called before it is executed}.
SOURCES = {'netlink': None, 'proc': refuse_netlink, 'nothing': hide_net}


class Node:
    """Listens and registers, as a user, and keeps its connection."""

    def __init__(self, mapper, name, uid=OWNER, address=harness.HOST):
        self.name = name
        with user(uid):
            self.listener = socket.create_server((address, 0))
            self.port = self.listener.getsockname()[1]
            self.connection, self.creation = mapper.register(name, port=self.port)

    def close(self):
        self.listener.close()
        self.connection.close()


def setUpModule():
    # The connections that have ended on a busy host fill /proc/net/tcp, of which only the beginning is read.
    if os.geteuid() == 0:
        own_network()


@as_root_only
class AdoptionTest(unittest.TestCase):

    def mapper(self, source, **options):
        mapper = harness.Mapper(before_exec=SOURCES[source], **options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def restart_with_all_lost(self, mapper, source):
        mapper.stop(signal.SIGKILL)
        mapper._before_exec = SOURCES[source]
        mapper.start()
        # It serves before it knows that no connection comes.
        harness.wait_until(lambda: status(mapper)['orphaned'] == len(mapper.names()) > 0, 'all are orphans')

    def nodes(self, mapper, names, is_recorded):
        nodes = {name: Node(mapper, name) for name in names}
        for node in nodes.values():
            self.addCleanup(node.close)
        if is_recorded:
            for name in names:
                harness.wait_until(lambda n=name: lookup(mapper, n.decode())['uid'] == OWNER, f'the user of {name} is recorded')
        return nodes

    def ask(self, mapper, node, uid, port):
        """'refused', 'adopted' with the creation that the node had, or 'replaced' with another."""
        with user(uid):
            connection, reply = mapper.alive2(node.name, port=port)
        self.addCleanup(connection.close)
        result, creation = harness.alive2_result(reply)
        if result != 0:
            connection.close()
            return 'refused'
        return 'adopted' if creation == node.creation else 'replaced'

    def check(self, first, second, expected, is_alive=False, new_listener=None):
        """What becomes of orphans of a mapper that knows `first`, when one that knows `second` is asked for their names.

        expected: {(uid, whether the port is the same): what becomes of it}
        new_listener: who listens on their ports meanwhile.
        """
        mapper = self.mapper(first)
        names = [b'node%d' % number for number in range(len(expected))]
        nodes = self.nodes(mapper, names, is_recorded=first == 'netlink')
        mapper.stop(signal.SIGKILL)
        for node in nodes.values():
            if not is_alive:
                node.listener.close()
            if new_listener is not None:
                with user(new_listener):
                    listener = socket.create_server((harness.HOST, node.port))
                self.addCleanup(listener.close)
        mapper._before_exec = SOURCES[second]
        mapper.start()
        if new_listener is not None and second == 'netlink':
            time.sleep(1.5)  # whoever listens is looked for in that time
        deadline = time.monotonic() + harness.PATIENCE_S
        for node, ((uid, is_same_port), outcome) in zip(nodes.values(), expected.items()):
            port = node.port if is_same_port else ANOTHER_PORT
            asked = self.ask(mapper, node, uid, port)
            if second == 'proc' and outcome != 'refused':
                # It is read for a part of the time only.
                while asked == 'refused' and time.monotonic() < deadline:
                    asked = self.ask(mapper, node, uid, port)
            what = (first, second, is_alive, new_listener, uid, is_same_port)
            self.assertEqual(asked, outcome, f'{what}: {mapper.log()}')
            found = mapper.lookup(node.name)
            self.assertIsNotNone(found, what)
            self.assertEqual(found.port, node.port if outcome != 'replaced' or is_same_port else ANOTHER_PORT, what)
            if asked == 'refused':
                self.assertEqual(lookup(mapper, node.name.decode())['state'], 'orphaned', what)
        mapper.close()

    @staticmethod
    def only(uid, outcome, otherwise='refused'):
        """That user with the same port, and everybody else."""
        return {who: outcome if who == (uid, True) else otherwise
                for who in itertools.product((OTHER, ROOT, OWNER), (False, True))}

    @staticmethod
    def all_(outcome):
        return AdoptionTest.only(None, None, outcome)

    def test_node_that_lives(self):
        self.check('netlink', 'netlink', self.only(OWNER, 'adopted'), is_alive=True)
        # Nothing is recorded, so that its socket says who may have it.
        self.check('proc', 'netlink', self.only(OWNER, 'adopted'), is_alive=True)

    def test_node_that_lives_without_netlink(self):
        # Whether it is the same socket is not known, so that it has another creation.
        self.check('netlink', 'proc', self.only(OWNER, 'replaced'), is_alive=True)
        self.check('proc', 'proc', self.only(OWNER, 'adopted'), is_alive=True)
        for first in ('netlink', 'nothing'):
            self.check(first, 'nothing', self.all_('refused'), is_alive=True)

    def test_node_that_is_dead(self):
        for first, second in itertools.product(SOURCES, SOURCES):
            self.check(first, second, self.all_('replaced'))

    def test_port_that_is_anothers_now(self):
        for second in ('netlink', 'proc'):
            self.check('netlink', second, self.all_('replaced'), new_listener=OTHER)
        # Its own user's, but another socket.
        self.check('netlink', 'netlink', self.all_('replaced'), new_listener=OWNER)
        # Nothing is recorded: by all that can be known who listens there is the node.
        for first, second in (('proc', 'netlink'), ('proc', 'proc')):
            self.check(first, second, self.only(OTHER, 'adopted'), new_listener=OTHER)
        self.check('netlink', 'nothing', self.all_('refused'), new_listener=OTHER)

    def test_node_that_listens_elsewhere(self):
        """Not on the address from which it registers, and another user has the same port there."""
        mapper = self.mapper('netlink')
        node = Node(mapper, b'node', address='127.0.0.2')
        self.addCleanup(node.close)
        harness.wait_until(lambda: lookup(mapper, 'node')['uid'] == OWNER, 'its user is recorded')
        time.sleep(1.5)  # its socket is searched for
        with user(OTHER):
            others = socket.create_server((harness.HOST, node.port))
        self.addCleanup(others.close)
        self.restart_with_all_lost(mapper, 'netlink')
        self.assertEqual(self.ask(mapper, node, OTHER, node.port), 'refused')
        self.assertEqual(self.ask(mapper, node, OTHER, ANOTHER_PORT), 'refused')
        self.assertEqual(self.ask(mapper, node, OWNER, node.port), 'adopted')

    def test_node_that_names_the_port_of_another_user(self):
        """It lives no longer than its own user's sockets: another user's listener is none of them."""
        mapper = self.mapper('netlink', args=['-orphan_grace', '1'])
        with user(OTHER):
            others = socket.create_server((harness.HOST, 0))
        self.addCleanup(others.close)
        with user(OWNER):
            connection, _ = mapper.register(b'liar', port=others.getsockname()[1])
        self.addCleanup(connection.close)
        harness.wait_until(lambda: lookup(mapper, 'liar')['uid'] == OWNER, 'its user is recorded')
        time.sleep(1.5)
        self.restart_with_all_lost(mapper, 'netlink')
        self.assertIsNotNone(mapper.lookup(b'liar'))
        mapper.wait_gone(b'liar')

    def test_left_alone_as_long_as_its_port_accepts(self):
        mapper = self.mapper('nothing', args=['-orphan_grace', '1'])
        # More than are tried at a time.
        nodes = self.nodes(mapper, [b'node%d' % number for number in range(200)], is_recorded=False)
        self.restart_with_all_lost(mapper, 'nothing')
        time.sleep(3)
        self.assertEqual(len(mapper.names()), 200)
        for node in nodes.values():
            node.listener.close()
        harness.wait_until(lambda: not mapper.names(), 'all have ended')

    def test_restart_on_a_fixed_port_without_netlink(self):
        """Nobody is locked out of his name for the grace time because netlink is forbidden."""
        for source in ('proc', 'nothing'):
            with self.subTest(source=source):
                mapper = self.mapper(source)
                node = Node(mapper, b'node')
                self.addCleanup(node.close)
                self.restart_with_all_lost(mapper, source)
                node.listener.close()
                if source == 'nothing':
                    # The attempt that fails ends, and with it whatever accepts on the port.
                    with user(OWNER), socket.create_server((harness.HOST, node.port)):
                        self.assertEqual(self.ask(mapper, node, OWNER, node.port), 'refused')
                with user(OWNER):
                    connection, _ = mapper.register(b'node', port=ANOTHER_PORT if source == 'proc' else node.port)
                self.addCleanup(connection.close)

    def test_other_network_namespace(self):
        """A newcomer from there may not register at all, and nothing of the orphan changes."""
        with harness.TwoHosts() as hosts:
            mapper = harness.Mapper(prefix=hosts.server_prefix, address=None, host=hosts.server_address,
                                    args=['-relaxed_command_check'])
            self.addCleanup(mapper.close)
            with hosts.on_server():
                mapper.start()
                node = Node(mapper, b'node', address='0.0.0.0')
                self.addCleanup(node.close)
                harness.wait_until(lambda: lookup(mapper, 'node')['uid'] == OWNER, 'its user is recorded')
                mapper.stop(signal.SIGKILL)
                mapper.start()
            with hosts.on_client():
                for uid, port in itertools.product((OWNER, OTHER, ROOT), (node.port, ANOTHER_PORT)):
                    with user(uid):
                        connection, reply = mapper.alive2(b'node', port=port)
                    connection.close()
                    self.assertEqual(reply, b'')
            with hosts.on_server():
                harness.wait_until(lambda: lookup(mapper, 'node')['state'] == 'orphaned', 'it is an orphan')
                self.assertEqual(self.ask(mapper, node, OWNER, node.port), 'adopted')

    def test_kill_asks_about_orphans(self):
        """A node that ends while it is an orphan does not make KILL fail, as it would stay listed for a moment."""
        for number in range(10):
            mapper = self.mapper('netlink')
            nodes = self.nodes(mapper, [b'node', b'other'], is_recorded=True)
            self.restart_with_all_lost(mapper, 'netlink')
            self.assertEqual(mapper.kill(), b'NO')
            self.assertEqual(len(mapper.names()), 2)
            nodes[b'node'].listener.close()
            self.assertEqual(mapper.kill(), b'NO')
            nodes[b'other'].listener.close()
            self.assertEqual(mapper.kill(), b'OK', number)
            self.assertEqual(mapper.wait(), 0)


if __name__ == '__main__':
    unittest.main()
