"""TCP sockets of this host as the kernel knows them, asked one by one: its tables in /proc have those of all tests at once."""

import contextlib
import os
import socket
import struct

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
TCP_LISTEN = 10
ANY_STATE = 0xffffffff
ANY_COOKIE = b'\xff' * 8
HEADER = struct.Struct('=IHHII')   # nlmsghdr: length, type, flags, sequence, port id
REQUEST = struct.Struct('=BBBxI')  # the beginning of inet_diag_req_v2: family, protocol, extensions, states
PORTS = struct.Struct('!HH')       # that of inet_diag_sockid, behind it: source, destination
ADDRESSES = struct.Struct('!16s16sI')  # behind the ports: source, destination, interface; a cookie follows
ID_SIZE = 48
FACTS = struct.Struct('=IIIII')    # behind the id in inet_diag_msg: expires, bytes to read, to send, uid, inode
ANSWER_OFFSET = 4                  # of the id in inet_diag_msg


def _ask(family, states, ports, addresses, flags):
    """The sockets that the kernel names: [(source port, bytes to read, inode)]."""
    body = (REQUEST.pack(family, socket.IPPROTO_TCP, 0, states) + PORTS.pack(*ports) + ADDRESSES.pack(*addresses, 0) + ANY_COOKIE)
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.sendall(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | flags, 1, 0) + body)
        while True:
            answer = kernel.recv(1 << 16)
            at = 0
            while at < len(answer):
                size, kind = HEADER.unpack_from(answer, at)[:2]
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return found
                socket_id = at + HEADER.size + ANSWER_OFFSET
                _, unread, _, _, inode = FACTS.unpack_from(answer, socket_id + ID_SIZE)
                found.append((PORTS.unpack_from(answer, socket_id)[0], unread, inode))
                at += (size + 3) & ~3
            if flags & NLM_F_DUMP == 0:
                return found


def unread_by_peer(connection):
    """How many bytes the other end of an IPv4 connection, which is on this host, has not read yet; None when there is none."""
    (own_address, own), (peer_address, peer) = connection.getsockname(), connection.getpeername()
    found = _ask(socket.AF_INET, ANY_STATE, (peer, own), (socket.inet_aton(peer_address), socket.inet_aton(own_address)), 0)
    return found[0][1] if found else None


def listening_inodes(port):
    """Inodes of the sockets that listen on a port, at any address."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            found |= {inode for own, _, inode in _ask(family, 1 << TCP_LISTEN, (port, 0), (b'', b''), NLM_F_DUMP) if own == port}
    return found


def listeners(port):
    """Pids of the processes that hold a socket listening on `port`."""
    links = {f'socket:[{inode}]' for inode in listening_inodes(port)}
    pids = set()
    if not links:
        return pids
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f'/proc/{pid}/fd'):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in links:
                        pids.add(int(pid))
                        break
    return pids
