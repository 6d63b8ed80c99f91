"""Who a node is, who may take a name (-reserve), and who may ask from outside (-allow).

Users are other effective user ids of this process: a socket belongs to the one that made it. Hosts are network
namespaces. Most of it needs root.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import as_root_only

EPMDCTL = os.environ.get('EPMDCTL') or os.path.join(os.environ.get('MESON_BUILD_ROOT', ''), 'tools', 'epmdctl')
# Users that no machine has, so that they have no names, but for the last.
ALICE = 64101
BOB = 64102


@contextlib.contextmanager
def user(uid):
    """Sockets made inside `with` belong to that user."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def epmdctl(mapper, *command):
    done = subprocess.run([EPMDCTL, '--registry', mapper.registry, *command], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env=harness.clean_environment(), timeout=harness.PATIENCE_S, check=False)
    if done.returncode != 0:
        raise AssertionError(done)
    return done.stdout


def owner_of(mapper, name):
    """The node as epmdctl shows it; the mapper finds out whose it is after it has registered it."""
    return harness.wait_until(lambda: (node := json.loads(epmdctl(mapper, '--json', 'lookup', name)))['uid'] is not None
                              and node, f'the user of {name}')


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
            harness.wait_until(lambda: json.loads(epmdctl(self.mapper, '--json', 'lookup', 'hare'))['pid'] == os.getpid(),
                               'the process')
            self.assertRegex(epmdctl(self.mapper, 'list'), rf'hare .* {os.getpid()}  live\n')

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
            self.assertRegex(epmdctl(self.mapper, 'list'), rf'hare .* {ALICE} +- +live\nrabbit .* root +- +live\n')

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
            harness.wait_until(lambda: json.loads(epmdctl(self.mapper, '--json', 'lookup', 'hare'))['pid'] == node.pid,
                               'the process of the node')

    def test_after_a_restart(self):
        node = self.mapper.register(b'hare', port=1)[0]
        with node:
            owner_of(self.mapper, 'hare')
            self.mapper.stop()
            self.mapper.start()
            self.assertEqual(owner_of(self.mapper, 'hare')['uid'], os.geteuid())


if __name__ == '__main__':
    unittest.main()
