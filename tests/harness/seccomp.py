"""io_uring refused to this process and its children, as container runtimes and older kernels do."""

import ctypes
import errno
import os

# System calls of x86-64.
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
# IORING_SETUP_COOP_TASKRUN, SINGLE_ISSUER and DEFER_TASKRUN: flags of a ring that Linux has since then, or later.
SINCE_5_19 = 1 << 8 | 1 << 12 | 1 << 13


class _Filter(ctypes.Structure):
    _fields_ = [('code', ctypes.c_ushort), ('jt', ctypes.c_ubyte), ('jf', ctypes.c_ubyte), ('k', ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.POINTER(_Filter))]


def refuse_io_uring(first=IO_URING_SETUP, last=IO_URING_REGISTER, error=errno.EPERM):
    """Lets this process's calls for rings, from the first to the last, fail, with EPERM as container runtimes do with all."""
    load_number, jump_if_at_least, jump_if_above, answer = 0x20, 0x35, 0x25, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error
    filters = (_Filter * 5)(
        _Filter(load_number, 0, 0, 0),
        _Filter(jump_if_at_least, 0, 2, first),
        _Filter(jump_if_above, 1, 0, last),
        _Filter(answer, 0, 0, fail),
        _Filter(answer, 0, 0, allow))
    program = _Program(len(filters), filters)
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_no_new_privs, pr_set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) != 0 or libc.prctl(pr_set_seccomp, filter_mode, ctypes.byref(program)) != 0:
        os._exit(99)
