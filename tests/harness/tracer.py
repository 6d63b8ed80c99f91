"""Threads of another process that stand still, wherever they are, while the rest of the process goes on (ptrace(2))."""

import contextlib
import ctypes
import os

from harness.process import task_ids, wait_until

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WAIT_FOR_THREADS = 0x40000000  # __WALL
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


def _trace(request, thread):
    if _LIBC.ptrace(request, thread, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f'ptrace({request:#x}, {thread}): {os.strerror(error)}')


def threads(pid):
    """The ids of a process's threads, the main one first."""
    return sorted(task_ids(pid), key=lambda thread: (thread != pid, thread))


def name_of(pid, thread):
    with open(f'/proc/{pid}/task/{thread}/comm') as file:
        return file.read().strip()


@contextlib.contextmanager
def stopped(thread):
    """Holds a thread of this user's. When the context is entered it stands still already."""
    _trace(_SEIZE, thread)
    try:
        _trace(_INTERRUPT, thread)
        wait_until(lambda: os.waitpid(thread, _WAIT_FOR_THREADS | os.WNOHANG)[0] == thread, 'the thread stands still')
        yield
    finally:
        _trace(_DETACH, thread)
