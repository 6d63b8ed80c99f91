"""A cgroup whose threads get a share of a core and no more, however idle the machine is (cgroups(7), either version).

    with cpu_quota.Quota(percent=20) as quota:
        quota.hold(thread)
"""

import os
import unittest

from harness.process import wait_until

_PERIOD_US = 100_000
_FIRST_VERSION = '/sys/fs/cgroup/cpu'
_SECOND_VERSION = '/sys/fs/cgroup'


class Quota:
    """Skips the test where no such cgroup can be made."""

    def __init__(self, percent):
        self._quota_us = _PERIOD_US * percent // 100
        is_first = os.path.exists(os.path.join(_FIRST_VERSION, 'cpu.cfs_quota_us'))
        self.path = os.path.join(_FIRST_VERSION if is_first else _SECOND_VERSION, f'evermap-test-{os.getpid()}')
        self._threads = os.path.join(self.path, 'tasks' if is_first else 'cgroup.threads')
        self._processes = os.path.join(self.path, 'cgroup.procs')
        self._settings = ({'cpu.cfs_period_us': _PERIOD_US, 'cpu.cfs_quota_us': self._quota_us} if is_first else
                          {'cpu.max': f'{self._quota_us} {_PERIOD_US}'})

    def __enter__(self):
        try:
            self._make()
        except OSError as error:
            self.__exit__()
            raise unittest.SkipTest(f'no cgroup with a quota here: {error}') from None
        return self

    def _make(self):
        os.mkdir(self.path)
        for name, value in self._settings.items():
            self._write(os.path.join(self.path, name), value)

    def hold(self, thread):
        """Moves one thread; the second version of cgroups lets a thread go alone only in a threaded cgroup."""
        self._move(self._threads, thread)

    def enter(self):
        """Moves the calling process, for what is started from it."""
        self._move(self._processes, os.getpid())

    def _move(self, members, task):
        try:
            self._write(members, task)
        except FileNotFoundError:
            # A systemd of the host removes cgroups that are empty and not its own.
            self._make()
            self._write(members, task)

    def throttled(self):
        """How often the quota was used up."""
        with open(os.path.join(self.path, 'cpu.stat')) as file:
            return int(dict(line.split() for line in file)['nr_throttled'])

    def _write(self, path, value):
        with open(path, 'w') as file:
            file.write(str(value))

    def _is_removed(self):
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # its last process is ending
        return True

    def __exit__(self, *_):
        wait_until(self._is_removed, f'{self.path} can be removed')
