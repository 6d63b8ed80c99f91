"""What the environment says: the programs under test, the scale of a run; and the environment of what tests start.

    EPMD                 the mapper under test (default: the one in the build directory MESON_BUILD_ROOT)
    EPMDCTL              epmdctl (default: the one of EPMD's build directory)
    EPMD_FAULTS_BINARY   the mapper with fault points (default: epmd_faults beside EPMD)
    STOCK_EPMD           the reference, Erlang/OTP's own (default: behind /usr/bin/epmd, or below /usr/lib/erlang)
    EVERMAP_LOOP         io_uring, epoll or auto: the event loop of the mapper under test (default auto)
    EVERMAP_TEST_SCALE   percent of the rounds, nodes and upgrades that a test is made for (default 100)
"""

import glob
import os
import resource
import shutil
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
LOOP = os.environ.get('EVERMAP_LOOP', 'auto')
SCALE_PERCENT = int(os.environ.get('EVERMAP_TEST_SCALE', '100'))

# Where tools/setup unpacks programs that start services when they are installed, or that exclude a package that is.
UNPACKED = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'evermap', 'packages')

# How long anything that has to happen may take before a test is called failed. Nothing waits that long when all is
# well; it is generous because sanitizer builds on a busy machine are slow.
PATIENCE_S = 30.0


def scaled(name, count, least=1):
    """The number `name` of the environment, by default `count` as far as this run goes, but `least` at least."""
    return int(os.environ.get(name, max(least, count * SCALE_PERCENT // 100)))


def _default_epmd():
    root = os.environ.get('MESON_BUILD_ROOT')
    return os.path.join(root, 'daemon', 'epmd') if root else shutil.which('epmd')


def _default_stock():
    behind = os.path.realpath('/usr/bin/epmd')
    if '/erlang/' in behind and os.path.exists(behind):
        return behind
    found = sorted(glob.glob('/usr/lib/erlang/erts-*/bin/epmd'))
    return found[-1] if found else None


STOCK_EPMD = os.environ.get('STOCK_EPMD') or _default_stock()
EPMD = os.path.realpath(os.environ.get('EPMD') or _default_epmd() or 'epmd')
EPMDCTL = os.path.realpath(os.environ.get('EPMDCTL') or os.path.join(os.path.dirname(EPMD), '..', 'tools', 'epmdctl'))
EPMD_FAULTS = os.environ.get('EPMD_FAULTS_BINARY') or EPMD + '_faults'
TESTING_STOCK = STOCK_EPMD is not None and os.path.realpath(STOCK_EPMD) == EPMD


def _instrumented(path):
    try:
        with open(path, 'rb') as binary:
            content = binary.read()
    except OSError:
        return False
    return b'__asan_init' in content or b'__tsan_init' in content


# True for sanitizer builds, whose memory and speed say nothing.
INSTRUMENTED = _instrumented(EPMD)

ours_only = unittest.skipIf(TESTING_STOCK, 'concerns what the stock epmd does not have')
as_root_only = unittest.skipUnless(os.geteuid() == 0, 'needs root')


_TREES = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache'), 'evermap', 'trees')


def tree(suite, kind):
    """The directory of a tree of another release (tools/project/tree)."""
    path = os.path.join(_TREES, f'{suite}.{kind}')
    if not os.path.isdir(path):
        raise unittest.SkipTest(f'no tree of {suite} here: tools/project/tree make {suite} {kind}')
    return path


def other_references():
    """The stock epmds of other releases of Erlang/OTP, in the trees that are here: {'27': command}, without that of STOCK_EPMD's
    release. They run with the libraries of their tree."""
    references = {}
    own = glob.glob(os.path.join(os.path.dirname(STOCK_EPMD or ''), '..', '..', 'releases', '[0-9]*'))
    for path in sorted(glob.glob(f'{_TREES}/*.run/usr/lib/erlang/erts-*/bin/epmd')):
        root = path[:path.index('/usr/')]
        for release in glob.glob(f'{root}/usr/lib/erlang/releases/[0-9]*'):
            number = os.path.basename(release)
            if number not in map(os.path.basename, own):
                references[number] = [f'{root}/lib64/ld-linux-x86-64.so.2', '--library-path', f'{root}/usr/lib/x86_64-linux-gnu', path]
    return references


def raise_descriptor_limit():
    """Gives this process as many file descriptors as the machine allows; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def clean_environment(**changes):
    """The environment without what would reach into a mapper or a node from outside."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(('ERL_', 'ERTS_', 'RELEASE_', 'ELIXIR_ERL', 'LISTEN_')) and
           key not in ('NOTIFY_SOCKET', 'RUNTIME_DIRECTORY', 'JOURNAL_STREAM')}
    # The settings of this machine are none of a test's.
    env['ERL_EPMD_CONFIG'] = 'none'
    env.update({key: str(value) for key, value in changes.items()})
    # What is preloaded into all (allow_list.py) is, and starts after what a test wants of its own.
    if 'LD_PRELOAD' in changes and 'LD_PRELOAD' in os.environ:
        env['LD_PRELOAD'] = os.environ['LD_PRELOAD'] + ':' + env['LD_PRELOAD']
    return env
