"""Ports that are free, sockets of another user, and hosts as network namespaces."""

import atexit
import contextlib
import ctypes
import glob
import os
import random
import socket
import subprocess
import unittest

from harness.process import wait_until

# Ports are taken from below the kernel's range for outgoing connections, so that none of ours is in the way.
PORT_FIRST = 20000
PORT_LAST = 32000
# Where mappers keep the registry that are not told where.
USUAL_DIRECTORIES = '/run/evermap', '/run/user/*/evermap', '/dev/shm/epmd-*'
_given = set()


def _is_free(port):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(('0.0.0.0', port))
        with contextlib.suppress(OSError):  # a host without IPv6
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe6:
                probe6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe6.bind(('::1', port))
    except OSError:
        return False
    return True


def free_port():
    """A port nobody listens on, on any address. What mappers there leave in the usual places is removed when this process ends."""
    for _ in range(1000):
        port = random.SystemRandom().randint(PORT_FIRST, PORT_LAST)
        if _is_free(port):
            _given.add(port)
            return port
    raise AssertionError('no free port found')


@atexit.register
def _remove_registries():
    for port in filter(_is_free, _given):
        for directory in USUAL_DIRECTORIES:
            for path in glob.glob(f'{directory}/registry.{port}*'):
                with contextlib.suppress(OSError):
                    os.unlink(path)


@contextlib.contextmanager
def user(uid):
    """Sockets made inside `with` belong to that user. Needs root."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def in_network_of(pid):
    """Sockets opened and programs started inside `with` belong to the network of that process, and stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
    there = os.open(f'/proc/{pid}/ns/net', os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise unittest.SkipTest('setns: ' + os.strerror(ctypes.get_errno()))
        yield
    finally:
        # A thread that stayed there would take all later tests along.
        if libc.setns(home, CLONE_NEWNET) != 0:
            os._exit(70)
        os.close(home)
        os.close(there)


def own_network():
    """This process, and what it starts, are alone in a network from here on. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise unittest.SkipTest('no network namespaces here: ' + os.strerror(ctypes.get_errno()))
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)


class TwoHosts:
    """Two network namespaces joined by a pair of virtual cables: somebody who is not local. Needs root.

    The first host has .server_address, the second .client_address.
    """

    server_address = '10.231.77.1'
    client_address = '10.231.77.2'

    def __init__(self):
        self._holders = []
        try:
            for _ in range(2):
                self._add_namespace()
            server, client = (str(holder.pid) for holder in self._holders)
            self._ip(server, 'link', 'add', 'cable0', 'type', 'veth', 'peer', 'name', 'cable1', 'netns', client)
            self._ip(server, 'address', 'add', self.server_address + '/24', 'dev', 'cable0')
            self._ip(client, 'address', 'add', self.client_address + '/24', 'dev', 'cable1')
            for pid, cable in ((server, 'cable0'), (client, 'cable1')):
                self._ip(pid, 'link', 'set', cable, 'up')
                self._ip(pid, 'link', 'set', 'lo', 'up')
        except BaseException:
            self.close()
            raise

    def _add_namespace(self):
        holder = subprocess.Popen(['unshare', '-n', 'sleep', '3600'], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._holders.append(holder)
        own = os.readlink('/proc/self/ns/net')
        wait_until(lambda: holder.poll() is not None or os.readlink(f'/proc/{holder.pid}/ns/net') != own,
                   'a network namespace', 10)
        if holder.poll() is not None:
            raise unittest.SkipTest('no network namespaces here: ' + holder.stderr.read().decode().strip())

    def add_host(self, server_address, address):
        """One more host, on a cable of its own; returns what to use as on_client()."""
        self._add_namespace()
        number = len(self._holders) - 1
        server, host = str(self._holders[0].pid), str(self._holders[number].pid)
        near, far = f'cable{2 * number}', f'cable{2 * number + 1}'
        self._ip(server, 'link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', host)
        for pid, cable, own in ((server, near, server_address), (host, far, address)):
            self._ip(pid, 'address', 'add', own + '/24', 'dev', cable)
            self._ip(pid, 'link', 'set', cable, 'up')
        return lambda: in_network_of(int(host))

    def _ip(self, pid, *args):
        done = subprocess.run(['nsenter', '-t', pid, '-n', 'ip', *args], capture_output=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest('cannot join two network namespaces: ' + done.stderr.decode().strip())

    def add_ipv6(self, server_address, client_address):
        for holder, address, cable in zip(self._holders, (server_address, client_address), ('cable0', 'cable1')):
            self._ip(str(holder.pid), 'address', 'add', address + '/64', 'dev', cable, 'nodad')

    @property
    def server_prefix(self):
        """What to put before a command to run it on the first host."""
        return ['nsenter', '-t', str(self._holders[0].pid), '-n', '--']

    def on_server(self):
        """Sockets opened inside `with` belong to the first host, and stay there."""
        return in_network_of(self._holders[0].pid)

    def on_client(self):
        return in_network_of(self._holders[1].pid)

    def close(self):
        for holder in self._holders:
            if holder.poll() is None:
                holder.kill()
            holder.wait()
            holder.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
