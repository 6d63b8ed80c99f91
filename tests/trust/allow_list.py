#!/usr/bin/env python3
"""Runs a command with all mappers that it starts under the system-call allow list of epmd.service.

usage: tests/trust/allow_list.py LIBRARY COMMAND [ARG...]
  LIBRARY  tests/preload/allow_list.c, built

The list is what SystemCallFilter= of the unit says, in the words of this machine's systemd, and what it does not name
fails as SystemCallErrorNumber= says. Before the command it is shown that the filter works; after it, how many programs
ran under it. Ends as the command ended.
"""

import ctypes
import errno
import os
import pathlib
import re
import subprocess
import sys
import tempfile

UNIT = pathlib.Path(__file__).resolve().parent.parent.parent / 'packaging' / 'systemd' / 'epmd.service.in'
ACT_ERRNO = 0x00050000  # of seccomp.h
ACT_ALLOW = 0x7fff0000

# In a program that the library takes for a mapper.
PROBE = '''
import os, sys
if 'Seccomp:\\t2' not in open('/proc/self/status').read():
    sys.exit('there is no filter')
try:
    os.chroot('/')
except OSError as error:
    sys.exit(error.errno)
sys.exit('chroot(2) was not refused')
'''


def members(name):
    """The system calls of a group, or the one of that name."""
    if not name.startswith('@'):
        return {name}
    listing = subprocess.run(['systemd-analyze', 'syscall-filter', name], stdout=subprocess.PIPE, text=True, check=True).stdout
    words = [line.split('#')[0].strip() for line in listing.splitlines()[1:]]
    return set().union(*(members(word) for word in words if word))


def read_unit(text):
    """(names of the allowed calls, errno of the others)"""
    # systemd adds these to any list.
    allowed = members('@default')
    for value in re.findall(r'(?m)^SystemCallFilter=(.*)', text):
        names = set().union(*(members(word) for word in value.lstrip('~').split()))
        allowed = allowed - names if value.startswith('~') else allowed | names
    return allowed, getattr(errno, re.search(r'(?m)^SystemCallErrorNumber=(\w+)', text)[1])


def write_filter(file, allowed, error):
    library = ctypes.CDLL('libseccomp.so.2')
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ACT_ERRNO | error))
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Negative: of another architecture, or newer than the library, which systemd passes over, too.
        if number >= 0 and library.seccomp_rule_add_array(context, ACT_ALLOW, number, 0, None) != 0:
            raise OSError(f'no rule for {name}')
    if library.seccomp_export_bpf(context, file.fileno()) != 0:
        raise OSError('libseccomp writes no filter')
    library.seccomp_release(context)


def main():
    if len(sys.argv) < 3 or sys.argv[1].startswith('-'):
        print(__doc__)
        return 2
    library = os.path.realpath(sys.argv[1])
    allowed, error = read_unit(UNIT.read_text())
    with tempfile.TemporaryDirectory(prefix='evermap-allow-list-') as directory:
        path = os.path.join(directory, 'filter')
        with open(path, 'wb') as file:
            write_filter(file, allowed, error)
        open(path + '.used', 'wb').close()
        # Mappers of other users read the one and write to the other.
        os.chmod(directory, 0o755)
        os.chmod(path, 0o644)
        os.chmod(path + '.used', 0o666)
        environment = dict(os.environ, ALLOW_LIST=path, LD_PRELOAD=library)
        probe = subprocess.run(['epmd-probe', '-c', PROBE], executable=sys.executable, env=environment,
                               stdin=subprocess.DEVNULL, check=False)
        if probe.returncode != error:
            print(f'the filter does not work: {probe.returncode}', file=sys.stderr)
            return 1
        before = os.path.getsize(path + '.used')
        done = subprocess.run(sys.argv[2:], env=environment, check=False)
        used = os.path.getsize(path + '.used') - before
        print(f'{used} programs ran under the {len(allowed)} names of the allow list', flush=True)
        return done.returncode if done.returncode >= 0 else 1


if __name__ == '__main__':
    sys.exit(main())
