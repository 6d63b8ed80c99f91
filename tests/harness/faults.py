"""System calls, and operations of rings, that fail: tests/preload/inject_faults.c, preloaded into a mapper.

    INJECT_FAULTS   the path of inject_faults.c as a library
    SEED            what the faults are drawn from, together with the pid of each process (default 1)
"""

import errno
import mmap
import os
import struct

INJECT = os.environ.get('INJECT_FAULTS')
SEED = int(os.environ.get('SEED', '1'))
KILLED = -1  # for Switch.only(): the call succeeds, and then its process is killed
STEADY = 20  # nodes that stay registered while calls fail

# While it serves: {call: errors}. Each may happen to Linux, or to a security module or a container on it.
SERVING = {
    'accept4': (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.ECONNABORTED, errno.EPERM),
    'recv': (errno.EINTR, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS),
    'send': (errno.EINTR, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM),
    'epoll_ctl': (errno.ENOMEM, errno.ENOSPC),
    'epoll_wait': (errno.EINTR,),
    'poll': (errno.EINTR, errno.ENOMEM),
    'sendmsg': (errno.EINTR, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS),
    'recvmsg': (errno.EINTR, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS),
    'fallocate64': (errno.ENOSPC, errno.EINTR, errno.EIO),
    'getsockopt': (errno.ENOBUFS,),
    'socket': (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES),
    'fcntl64': (errno.EINTR, errno.ENOLCK),
    'dup': (errno.EMFILE,),
}
# The same for a ring, which asks for errors of accept4 and of its own.
RING_SERVING = {
    'ring_accept': (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.ECONNABORTED, errno.EPERM,
                    errno.ECANCELED),
    'ring_poll': (errno.ENOMEM, errno.ECANCELED),
    'ring_enter': (errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ENOMEM),
}


class Switch:
    """Turns faults on and off in all processes of a mapper.

    plan: [(call, error, how many of 1,000 fail)]
    """

    def __init__(self, plan=(), seed=SEED):
        self._fd = os.memfd_create('faults')
        os.ftruncate(self._fd, mmap.PAGESIZE)
        self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
        text = ';'.join(f'{call}={error}/{per_mille}' for call, error, per_mille in plan)
        self.environment = {'LD_PRELOAD': INJECT, 'FAULTS': text, 'FAULTS_SEED': str(seed),
                            'FAULTS_SWITCH': f'/proc/{os.getpid()}/fd/{self._fd}'}

    def turn(self, on):
        self._map[:4] = struct.pack('<I', on)

    def only(self, call, error, number):
        """One call fails, beside the plan: in the process that gets first to this number of its calls, from 1 and from now on."""
        turn, = struct.unpack_from('<I', self._map, 4)
        self._map[24:56] = struct.pack('<Ii24s', number, error, call.encode())
        self._map[4:8] = struct.pack('<I', turn + 1)

    @property
    def injected(self):
        return struct.unpack_from('<Q', self._map, 8)[0]

    def set_clock(self, offset_s):
        self._map[16:24] = struct.pack('<q', offset_s)

    def __enter__(self):
        self.turn(True)
        return self

    def __exit__(self, *_):
        self.turn(False)

    def close(self):
        self._map.close()
        os.close(self._fd)
