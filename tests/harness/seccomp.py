"""System calls refused to this process and its children, as container runtimes, systemd and older kernels do."""

import ctypes
import errno
import os
import socket

# System calls of x86-64.
SOCKET = 41
CLONE, CLONE3 = 56, 435
CLONE_THREAD = 0x10000  # in the flags, the first argument of clone
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
# IORING_SETUP_COOP_TASKRUN, SINGLE_ISSUER and DEFER_TASKRUN: flags of a ring that Linux has since then, or later.
SINCE_5_19 = 1 << 8 | 1 << 12 | 1 << 13


class _Filter(ctypes.Structure):
    _fields_ = [('code', ctypes.c_ushort), ('jt', ctypes.c_ubyte), ('jf', ctypes.c_ubyte), ('k', ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.POINTER(_Filter))]


LOAD, JUMP, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ABOVE, JUMP_IF_BITS, ANSWER = 0x20, 0x05, 0x15, 0x35, 0x25, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT = 0, 16  # where a filter finds them


def _install(*instructions):
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    program = _Program(len(filters), filters)
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_no_new_privs, pr_set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) != 0 or libc.prctl(pr_set_seccomp, filter_mode, ctypes.byref(program)) != 0:
        os._exit(99)


def refuse_io_uring(first=IO_URING_SETUP, last=IO_URING_REGISTER, error=errno.EPERM):
    """Lets this process's calls for rings, from the first to the last, fail, with EPERM as container runtimes do with all."""
    _install((LOAD, 0, 0, NUMBER), (JUMP_IF_AT_LEAST, 0, 2, first), (JUMP_IF_ABOVE, 1, 0, last), (ANSWER, 0, 0, FAIL | error),
             (ANSWER, 0, 0, ALLOW))


def refuse_netlink():
    """No netlink sockets, as with RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 of systemd."""
    _install((LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 3, SOCKET), (LOAD, 0, 0, FIRST_ARGUMENT),
             (JUMP_IF_EQUAL, 0, 1, socket.AF_NETLINK), (ANSWER, 0, 0, FAIL | errno.EAFNOSUPPORT), (ANSWER, 0, 0, ALLOW))


def refuse_threads():
    """Lets this process have no further thread. The flags of clone3 are where no filter sees them; without it clone is called."""
    _install((LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 1, CLONE3), (ANSWER, 0, 0, FAIL | errno.ENOSYS), (JUMP_IF_EQUAL, 0, 3, CLONE),
             (LOAD, 0, 0, FIRST_ARGUMENT), (JUMP_IF_BITS, 0, 1, CLONE_THREAD), (ANSWER, 0, 0, FAIL | errno.EAGAIN),
             (ANSWER, 0, 0, ALLOW))


def refuse_calls(numbers, error):
    """These system calls fail, as those that a kernel does not know (ENOSYS), or that a filter forbids (EPERM)."""
    numbers = list(numbers)
    # Each comparison that fits leaps over those behind it and the leap to the permission, to the refusal.
    tests = [(JUMP_IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    _install((LOAD, 0, 0, NUMBER), *tests, (JUMP, 0, 0, 1), (ANSWER, 0, 0, FAIL | error), (ANSWER, 0, 0, ALLOW))
