"""Debian's podman in a sandbox of its own, for tests of images and manifests. Needs root, podman, crun and catatonit.

    with Podman() as podman:
        podman.make_image('evermap', {...})
        podman('run', '--detach', '--name', 'mapper', 'evermap')

It runs in mount, process, IPC and network namespaces of its own, so that nothing is left of it and nothing of it is seen: its
network is a loopback interface, which containers share that ask for the host's; others have none (`--network none`), or that
of the container or pod that they join. There are no control groups, which this machine may not let anybody make: podman, which wants
some, finds a file system in memory in their place, and crun leaves them out.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import tempfile
import unittest

from harness.process import ENDS_WITH_ITS_TEST, child_named, wait_until

_CONFIGURATION = '''
[containers]
netns = "none"
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[engine.runtimes]
crun = ["{directory}/crun"]
'''

_RUNTIME = '#!/bin/sh\nexec /usr/bin/crun --cgroup-manager=disabled "$@"\n'

_START = '''
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t tmpfs tmpfs /run
# For podman's processes that start a container again, too.
cp -r /etc/containers /run/containers-of-the-machine
mount -t tmpfs tmpfs /etc/containers
cp -r /run/containers-of-the-machine/. /etc/containers
cp "$PODMAN_CONFIGURATION" /etc/containers/containers.conf
ip link set lo up
# Its conmons and their containers are this process's in the end.
exec catatonit -P
'''


def load_yaml(path):
    """All documents of a file. Debian's Python has the module; this one need not."""
    script = 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))'
    with open(path) as file:
        done = subprocess.run(['/usr/bin/python3', '-c', script], stdin=file, capture_output=True, check=False)
    if b'No module named' in done.stderr:
        raise unittest.SkipTest('no python3-yaml here')
    assert done.returncode == 0, done
    return json.loads(done.stdout)


class Podman:

    def __init__(self):
        if os.geteuid() != 0 or not all(shutil.which(program) for program in ('podman', 'crun', 'catatonit')):
            raise unittest.SkipTest('needs root, podman, crun and catatonit')
        self.directory = tempfile.mkdtemp(prefix='evermap-podman-', dir='/var/tmp')
        with open(os.path.join(self.directory, 'crun'), 'w') as file:
            file.write(_RUNTIME)
            os.fchmod(file.fileno(), 0o755)
        with open(os.path.join(self.directory, 'containers.conf'), 'w') as file:
            file.write(_CONFIGURATION.format(directory=self.directory, files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                                             processes=max(1, resource.getrlimit(resource.RLIMIT_NPROC)[1])))
        self._process = subprocess.Popen(
            [*ENDS_WITH_ITS_TEST, 'unshare', '--pid', '--fork', '--kill-child', '--mount', '--mount-proc', '--ipc', '--net', 'sh', '-c', _START],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, 'PODMAN_CONFIGURATION': os.path.join(self.directory, 'containers.conf')})
        self._init = None

    def __enter__(self):
        try:
            self._init = wait_until(self._started, 'the sandbox runs')
        except BaseException:
            self.close()
            raise
        return self

    def _started(self):
        if self._process.poll() is not None:
            raise unittest.SkipTest('no sandbox here: ' + self._process.stderr.read().decode().strip())
        return child_named(self._process.pid, 'catatonit')
        return None

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stderr.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *arguments):
        return ['nsenter', '-t', str(self._init), '-m', '-p', '-i', '-n', '--', 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
                'HOME=/root', 'LC_ALL=C.UTF-8', *arguments]

    def __call__(self, *arguments, check=True, timeout_s=120, stdin=subprocess.DEVNULL):
        """Runs podman; returns what it says on both outputs."""
        done = subprocess.run(
            self.command('podman', '--root', f'{self.directory}/storage', '--runroot', '/run/podman', '--storage-driver', 'overlay',
                         *arguments),
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', timeout=timeout_s, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f'podman {" ".join(arguments)} ended with {done.returncode}:\n{done.stdout}')
        return done.stdout.strip()

    def succeeds(self, *arguments, **options):
        """Whether podman's exit status is 0."""
        try:
            self(*arguments, **options)
        except AssertionError:
            return False
        return True

    def inspect(self, name):
        return json.loads(self('inspect', name))[0]

    def make_image(self, name, add, changes=()):
        """An image of one layer. add(archive) puts files into a TarFile; changes: instructions as in a Dockerfile."""
        path = os.path.join(self.directory, 'layer.tar')
        with tarfile.open(path, 'w') as archive:
            add(archive)
        self('import', *[option for change in changes for option in ('--change', change)], path, name)
        os.unlink(path)
