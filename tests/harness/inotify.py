"""inotify(7), as any program may use it: a watch of one file or directory."""

import contextlib
import ctypes
import os
import select
import struct
import time

IN_MODIFY, IN_ATTRIB, IN_MOVED_TO, IN_CREATE, IN_DELETE_SELF, IN_IGNORED = 0x2, 0x4, 0x80, 0x100, 0x400, 0x8000
_libc = ctypes.CDLL(None, use_errno=True)


class Watch(contextlib.AbstractContextManager):
    """Watches `path` for events of `mask`. Raises OSError where that is not to be had."""

    def __init__(self, path, mask=IN_MODIFY):
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), 'inotify_init1')
        if _libc.inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
            error = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(error, f'inotify_add_watch {path}')

    def take(self, timeout_s=0.0):
        """The masks of all events that are there; waits for the first, at most so long. Events that are alike and follow one
        another are one, as long as they are not taken."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return []
        data, masks = os.read(self._fd, 65536), []
        while data:
            mask, size = struct.unpack_from('iIII', data)[1::2]
            masks.append(mask)
            data = data[16 + size:]
        return masks

    def take_until_quiet(self, quiet_s):
        """All until none has come for so long, and when the first of them came (time.monotonic(); None: none came)."""
        masks, first_s = [], None
        while more := self.take(quiet_s):
            first_s = first_s or time.monotonic()
            masks += more
        return masks, first_s

    def __exit__(self, *_):
        os.close(self._fd)
