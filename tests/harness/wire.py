"""EPMD's bytes, and a client that speaks them over raw sockets."""

import collections
import re
import socket
import struct

from harness.environment import PATIENCE_S
from harness.process import wait_until
from harness.sockets import unread_by_peer

HOST = '127.0.0.1'
TCP_ESTABLISHED = 1  # of the kernel's states of a TCP socket

NODE_TYPE_NORMAL = 77
PROTOCOL_TCP4 = 0
VERSION_HIGHEST = 6
VERSION_LOWEST = 5
REFUSED_CREATION = 99
BODY_SIZE_MAX = 3057
NAME_SIZE_MAX = 1020
NAME_CODE_POINTS_MAX = 255


def frame(body):
    return struct.pack('>H', len(body)) + body


def alive2_body(name, port=1234, node_type=NODE_TYPE_NORMAL, protocol=PROTOCOL_TCP4, highest=VERSION_HIGHEST,
                lowest=VERSION_LOWEST, extra=b''):
    return (b'x' + struct.pack('>HBBHHH', port, node_type, protocol, highest, lowest, len(name)) + name +
            struct.pack('>H', len(extra)) + extra)


def receive_all(connection):
    """Everything until the other side closes. A reset counts as a close: it depends on timing whether one comes."""
    received = bytearray()
    while True:
        try:
            chunk = connection.recv(1 << 16)
        except ConnectionResetError:
            return bytes(received)
        if not chunk:
            return bytes(received)
        received += chunk


def receive_exactly(connection, size):
    """`size` bytes, or fewer if the other side closes before."""
    received = b''
    while len(received) < size:
        try:
            chunk = connection.recv(size - len(received))
        except ConnectionResetError:
            break
        if not chunk:
            break
        received += chunk
    return received


def receive_alive2_reply(connection):
    """The bytes of one ALIVE2 reply; b'' when the connection was closed without."""
    first = receive_exactly(connection, 1)
    if first not in (b'v', b'y'):
        return first
    return first + receive_exactly(connection, 5 if first == b'v' else 3)


def alive2_result(reply):
    """(result, creation) of the bytes of an ALIVE2 reply."""
    if len(reply) == 6 and reply[:1] == b'v':
        return struct.unpack('>xBI', reply)
    if len(reply) == 4 and reply[:1] == b'y':
        return struct.unpack('>xBH', reply)
    raise AssertionError(f'not a reply to ALIVE2: {reply!r}')


def all_read(connection):
    """True when the process at the other end of an IPv4 connection, on this host, has read all that was sent, or closed."""
    if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
        return True
    return unread_by_peer(connection) == 0


def reset(connection):
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()


def sees_close(connection, timeout_s=PATIENCE_S):
    """True once the other side has closed and everything it sent has been read."""
    connection.settimeout(timeout_s)
    try:
        receive_all(connection)
    except TimeoutError:
        return False
    return True


Node = collections.namedtuple('Node', 'port node_type protocol highest lowest name extra')


class Client:
    """Speaks to the mapper on (host, port). Every request goes over a connection of its own."""

    def __init__(self, port, host=HOST, source=None):
        self.port = port
        self.host = host
        self.source = source

    def connect(self, timeout_s=PATIENCE_S):
        connection = socket.create_connection((self.host, self.port), timeout=timeout_s,
                                              source_address=(self.source, 0) if self.source else None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def raw(self, *chunks, half_close=False):
        """Sends the chunks one by one and returns all that comes until the mapper closes."""
        with self.connect() as connection:
            try:
                for chunk in chunks:
                    connection.sendall(chunk)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError, OSError):
                pass  # closed before all was sent; what was replied is still there to be read
            return receive_all(connection)

    def request(self, body, half_close=False):
        return self.raw(frame(body), half_close=half_close)

    def alive2(self, name, **description):
        """Returns the connection and the bytes of the reply. Keep the connection to stay registered."""
        connection = self.connect()
        try:
            connection.sendall(frame(alive2_body(name, **description)))
            return connection, receive_alive2_reply(connection)
        except BaseException:
            connection.close()
            raise

    def register(self, name, **description):
        """Registers, and returns the connection and the creation; fails the test when refused."""
        connection, reply = self.alive2(name, **description)
        if reply == b'' or alive2_result(reply)[0] != 0:
            connection.close()
            raise AssertionError(f'{name!r} was refused: {reply!r}')
        return connection, alive2_result(reply)[1]

    def lookup(self, name):
        """The Node, or None when the name is unknown."""
        reply = self.request(b'z' + name)
        if reply == b'w\x01':
            return None
        if reply[:2] != b'w\x00' or len(reply) < 14:
            raise AssertionError(f'not a reply to PORT2 for {name!r}: {reply!r}')
        port, node_type, protocol, highest, lowest, name_size = struct.unpack('>HBBHHH', reply[2:12])
        rest = reply[12 + name_size:]
        extra_size, = struct.unpack('>H', rest[:2])
        if len(rest) != 2 + extra_size:
            raise AssertionError(f'lengths in a reply to PORT2 do not fit: {reply!r}')
        return Node(port, node_type, protocol, highest, lowest, reply[12:12 + name_size], rest[2:])

    def names(self):
        """[(name, port)] in the mapper's order."""
        reply = self.request(b'n')
        self._check_port(reply)
        entries = re.findall(rb'name (.*?) at port (\d+)\n', reply[4:], re.S)
        if b''.join(b'name %b at port %b\n' % entry for entry in entries) != reply[4:]:
            raise AssertionError(f'not a reply to NAMES: {reply!r}')
        return [(name, int(port)) for name, port in entries]

    def dump(self):
        """The lines of DUMP, without their NUL."""
        reply = self.request(b'd')
        self._check_port(reply)
        return reply[4:].split(b'\x00')[:-1]

    def kill(self):
        return self.request(b'k')

    def stop_node(self, name):
        return self.request(b's' + name)

    def wait_registered(self, name):
        return wait_until(lambda: self.lookup(name), f'{name!r} is registered')

    def wait_gone(self, name):
        wait_until(lambda: self.lookup(name) is None, f'{name!r} is not registered')

    def _check_port(self, reply):
        if len(reply) < 4 or struct.unpack('>I', reply[:4])[0] != self.port:
            raise AssertionError(f'reply does not start with port {self.port}: {reply[:40]!r}')
