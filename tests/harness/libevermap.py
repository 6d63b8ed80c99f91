"""libevermap, as a program in another language uses it, in this process or in one of another user."""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import threading
import time
import unittest

from harness.environment import EPMD, INSTRUMENTED, PATIENCE_S, ROOT, clean_environment

LIBEVERMAP = os.environ.get('LIBEVERMAP') or os.path.realpath(
    os.path.join(os.path.dirname(EPMD), '..', 'registry', 'libevermap.so.1'))
CHANGED, REPLACED = 1, 2
REMEMBERED = 2
NOBODY = 65534


class _Node(ctypes.Structure):
    _fields_ = [('id', ctypes.c_uint64), ('since_unix_ns', ctypes.c_int64), ('creation', ctypes.c_uint32),
                ('owner_uid', ctypes.c_uint32), ('owner_pid', ctypes.c_uint32), ('port', ctypes.c_uint16),
                ('highest_version', ctypes.c_uint16), ('lowest_version', ctypes.c_uint16), ('name_size', ctypes.c_uint16),
                ('extra_size', ctypes.c_uint16), ('node_type', ctypes.c_uint8), ('protocol', ctypes.c_uint8),
                ('state', ctypes.c_uint8), ('reserved', ctypes.c_uint8 * 7), ('name', ctypes.c_char * 1024),
                ('extra', ctypes.c_char * 1024)]


def skip_if_instrumented():
    if INSTRUMENTED:
        raise unittest.SkipTest("Python has no room for a sanitizer's runtime")


def _library():
    skip_if_instrumented()
    library = ctypes.CDLL(LIBEVERMAP, use_errno=True)
    for name in ('evermap_open', 'evermap_watch_open'):
        getattr(library, name).restype = ctypes.c_void_p
    return library


class WatchError(OSError):
    pass


class Reader(contextlib.AbstractContextManager):
    """Knows the names at `path` and is told of changes; follows files that replace one another."""

    def __init__(self, path):
        self._library = _library()
        self._path = os.fsencode(path)
        self._error = ctypes.create_string_buffer(512)
        self._watch = ctypes.c_void_p(self._library.evermap_watch_open(self._path, self._error))
        if not self._watch:
            raise WatchError(ctypes.get_errno(), self._error.value.decode())
        self._registry = ctypes.c_void_p()
        self.openings = 0
        self._open()

    def _open(self):
        self._library.evermap_close(self._registry)
        self._registry = ctypes.c_void_p(self._library.evermap_open(self._path, self._error))
        self.openings += bool(self._registry)

    def fileno(self):
        return self._library.evermap_watch_fd(self._watch)

    def is_told(self):
        return bool(self._registry) and bool(self._library.evermap_tells_changes(self._registry))

    def is_superseded(self):
        return bool(self._library.evermap_superseded(self._registry))

    def names(self):
        """Of the nodes that are registered; None when there is no registry."""
        if not self._registry:
            return None
        node, at, names = _Node(), ctypes.c_uint32(0), set()
        while self._library.evermap_next(self._registry, ctypes.byref(at), ctypes.byref(node)):
            if node.state != REMEMBERED:
                names.add(node.name.decode())
        return names

    def take(self, timeout_s=None):
        """What is new: bits; waits for it, at most so long (None: without end)."""
        select.select([self], [], [], timeout_s)
        news = self._library.evermap_watch_take(self._watch)
        if news < 0:
            raise WatchError(ctypes.get_errno(), 'evermap_watch_take')
        if news & REPLACED:
            self._open()
        return news

    def __exit__(self, *_):
        self._library.evermap_watch_close(self._watch)
        self._library.evermap_close(self._registry)


def usual_path(port, room):
    """(what evermap_usual_path() writes into so many bytes, the size that it returns)"""
    path = ctypes.create_string_buffer(room)
    size = _library().evermap_usual_path(ctypes.c_uint16(port), path, ctypes.c_size_t(room))
    return path.value.decode(), size


class ReaderOfNobody(contextlib.AbstractContextManager):
    """A Reader in a process of the user nobody, which never looks without having been told. From there come, for each news,
    its bits and the names."""

    def __init__(self, path):
        skip_if_instrumented()
        # The library is loaded before, since its directory may be closed to that user.
        self._process = subprocess.Popen([sys.executable, os.path.abspath(__file__), path], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, text=True,
                                         env=clean_environment(PYTHONPATH=os.path.join(ROOT, 'tests'), LIBEVERMAP=LIBEVERMAP))
        self._said = threading.Condition()
        self.names = None
        self.news = []
        self._follower = threading.Thread(target=self._follow)
        self._follower.start()
        with self._said:
            if not self._said.wait_for(lambda: self.news, PATIENCE_S):
                raise AssertionError('the reader does not begin')

    def _follow(self):
        for line in self._process.stdout:
            with self._said:
                news, names = json.loads(line)
                self.news.append(news)
                self.names = None if names is None else set(names)
                self._said.notify_all()

    def sees(self, names, timeout_s=PATIENCE_S):
        """Whether it is told until it sees these names and no others; and how long that took."""
        begin = time.monotonic()
        with self._said:
            return self._said.wait_for(lambda: self.names == names, timeout_s), time.monotonic() - begin

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._follower.join()
        self._process.stdout.close()


def _main(path):
    _library()
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    with Reader(path) as reader:
        news = 0
        while True:
            names = reader.names()
            print(json.dumps([news, None if names is None else sorted(names)]), flush=True)
            news = reader.take()


if __name__ == '__main__':
    _main(sys.argv[1])
