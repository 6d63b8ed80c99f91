"""A mapper with a keeper, and what its tests need (custody_test.py, upgrade_test.py, upgrade_faults_test.py)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import unittest

import harness
from harness import Mapper

NODES = harness.scaled('CUSTODY_NODES', 1000)
EPMDCTL = os.environ.get('EPMDCTL') or os.path.join(os.path.dirname(harness.EPMD), '..', 'tools', 'epmdctl')
EPMD_FAULTS = os.environ.get('EPMD_FAULTS_BINARY') or harness.EPMD + '_faults'


def epmdctl(mapper, *args, timeout_s=90):
    return subprocess.run([EPMDCTL, '--registry', mapper.registry, *args], capture_output=True, text=True, check=False,
                          timeout=timeout_s, stdin=subprocess.DEVNULL)


def status(mapper):
    return json.loads(epmdctl(mapper, '--json', 'status').stdout)


def creations(mapper):
    """{name: (port, creation)} of all that is registered, from shared memory."""
    listed = json.loads(epmdctl(mapper, '--json', 'list').stdout)
    return {node['name'].encode(): (node['port'], node['creation']) for node in listed}


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
            if arguments != [b''] or not harness.process_exists(pid):
                return arguments
    return []


class Kept(Mapper):
    """A mapper with a keeper. .pid is the keeper's; the mapper's is mapper_pid()."""

    def __init__(self, binary=None, **options):
        super().__init__(keeper=True, **options)
        if binary is not None:
            self.binary = binary

    def mapper_pid(self):
        return status(self)['pid']

    def family(self):
        """All processes that run one of our programs with this mapper's registry."""
        return {int(entry) for entry in os.listdir('/proc') if entry.isdigit() and
                self.registry.encode() in command_line(int(entry)) and harness.process_exists(int(entry))}

    def all_killed(self):
        # Who sees another die first starts it again.
        family = self.family()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The last one may have started another while it was looked at the others.
        return not family and not self.family()

    def ask_for(self, program, pid=None):
        """Asks the keeper, or another process, for an upgrade to a program, and does not wait for it."""
        with open(self.registry + '.upgrade', 'w') as file:
            file.write(program)
        os.kill(pid or self.pid, signal.SIGHUP)

    def upgraded(self, binary=None):
        """Upgrades and returns epmdctl's CompletedProcess."""
        return epmdctl(self, 'upgrade', *([binary] if binary else []))

    def close(self):
        # Whatever became of the keeper, nothing is left behind.
        try:
            super().close()
        finally:
            harness.wait_until(self.all_killed, 'all are killed')


class CustodyCase(unittest.TestCase):

    def kept(self, **options):
        mapper = Kept(**options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def register(self, mapper, count, prefix=b'node'):
        """{name: port} of nodes that stay registered until the test ends."""
        nodes = {}
        for number in range(count):
            name = b'%b%d' % (prefix, number)
            connection, _ = mapper.register(name, port=10000 + number % 50000)
            self.addCleanup(connection.close)
            nodes[name] = 10000 + number % 50000
        return nodes

    def check_kept(self, mapper, before):
        """All that was registered is, with the same creation, and found over the wire."""
        after = creations(mapper)
        self.assertEqual({name: after.get(name) for name in before}, before)
        names = dict(mapper.names())
        for name, (port, _) in before.items():
            self.assertEqual(names.get(name), port, name)

    def copy_of(self, directory, content=None, mode=0o755, source=None):
        path = os.path.join(directory, 'epmd-new')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if content is None:
            shutil.copy(source or harness.EPMD, path)
        else:
            with open(path, 'w') as file:
                file.write(content)
        os.chmod(path, mode)
        return path
