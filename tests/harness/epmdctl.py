"""epmdctl on the registry of a test's mapper."""

import json
import subprocess

from harness.environment import EPMDCTL, clean_environment

FAILED, NO_REGISTRY, NOT_RUNNING = 1, 2, 3  # exit codes
TIMEOUT_S = 90


def arguments(mapper, *args):
    """The command line of epmdctl for that mapper."""
    return [EPMDCTL, '--port', str(mapper.port), '--registry', mapper.registry, *args]


def environment(**changes):
    return clean_environment(**{'TERM': 'xterm', **changes})


def epmdctl(mapper, *args, timeout_s=TIMEOUT_S, **changes):
    """Runs it to its end; returns a CompletedProcess with text. changes: of the environment."""
    return subprocess.run(arguments(mapper, *args), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=environment(**changes), timeout=timeout_s, check=False)


def printed(mapper, *args, codes=(0,)):
    """What it prints; fails when it ends with another exit code than these."""
    done = epmdctl(mapper, *args)
    if done.returncode not in codes:
        raise AssertionError(done)
    return done.stdout


def status(mapper):
    """Also of a mapper that does not run at the moment."""
    return json.loads(printed(mapper, '--json', 'status', codes=(0, NOT_RUNNING)))


def creations(mapper):
    """{name: (port, creation)} of all that is registered, from shared memory."""
    return {node['name'].encode(): (node['port'], node['creation']) for node in json.loads(printed(mapper, '--json', 'list'))}


def lookup(mapper, name):
    """The node of that name, as epmdctl shows it."""
    return json.loads(printed(mapper, '--json', 'lookup', name))
