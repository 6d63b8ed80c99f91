"""Processes: waiting for them, ending them, and what they use."""

import contextlib
import os
import re
import signal
import time

from harness.environment import PATIENCE_S

# Before the command of a process that must not outlive its test, which may be killed: a sandbox, and all in it.
ENDS_WITH_ITS_TEST = ('setpriv', '--pdeathsig', 'KILL')


def child_named(pid, name):
    """The child of a process that runs the program of that name, or None."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as children:
        for child in map(int, children.read().split()):
            with contextlib.suppress(OSError), open(f'/proc/{child}/comm') as comm:
                if comm.read().strip() == name:
                    return child
    return None


def wait_until(condition, what, timeout_s=PATIENCE_S):
    """Calls condition() until it returns something true, and returns that; fails with `what` after timeout_s."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0005
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {timeout_s} s: {what() if callable(what) else what}')
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def process_exists(pid):
    """False also for a zombie."""
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] not in ('Z', 'X')
    except OSError:
        return False


def end_process(pid):
    """Ends a process that is not our child."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not process_exists(pid), f'end of process {pid}', 10)
            return
    raise AssertionError(f'process {pid} does not end')


def cpu_of_threads_ns(pid, name=''):
    """CPU of the living threads of a process, or of those whose names begin with `name`; finer than cpu_seconds()."""
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/comm') as comm, open(f'/proc/{pid}/task/{thread}/schedstat') as file:
            if comm.read().startswith(name):
                total += int(file.read().split()[0])
    return total


def cpu_seconds(pids):
    """What processes have used, together."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as file:
            ticks += sum(map(int, file.read().rsplit(')', 1)[1].split()[11:13]))
    return ticks / os.sysconf('SC_CLK_TCK')


def resident_kib(pid):
    with open(f'/proc/{pid}/status') as status:
        return int(re.search(r'^VmRSS:\s+(\d+) kB', status.read(), re.M).group(1))


def state_of(pid):
    """The letter of a process, as in ps(1); nothing when it is gone."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0]
    return ''


def command_line(pid):
    """Of a process that runs one of our programs, epmdctl apart: its arguments; else nothing."""
    with contextlib.suppress(OSError):
        while True:
            program = os.path.basename(os.readlink(f'/proc/{pid}/exe'))
            if 'epmd' not in program or 'epmdctl' in program:
                break
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                arguments = file.read().split(b'\0')
            # Between execve(2) and its end there are none.
            if arguments != [b''] or not process_exists(pid):
                return arguments
    return []


def descendants(pid):
    """A process and all that it, or what it has started, has started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError), open(f'/proc/{parent}/task/{parent}/children') as children:
            found += map(int, children.read().split())
    return found


def wait_for_logs(pid, timeout_s=1):
    """Waits until the threads that write the log of a mapper and of its descendants sleep; not for ever, since they may hang."""
    def is_writing(thread):
        with contextlib.suppress(OSError), open(f'/proc/{thread}/stat') as file:
            name, rest = file.read().split('(', 1)[1].rsplit(')', 1)
            return name == 'epmd-log' and rest.split()[0] == 'R'
        return False
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(is_writing(f'{process}/task/{thread}') for process in descendants(pid)
                                              for thread in task_ids(process)):
        time.sleep(0.0005)


def task_ids(pid):
    """The ids of a process's threads; none when it is gone."""
    with contextlib.suppress(OSError):
        return [int(entry) for entry in os.listdir(f'/proc/{pid}/task')]
    return []
