"""What packaging/container/ promises, played with podman from Debian: the image, the compose file and the manifest, with real
nodes, through restarts, upgrades and kills of each container.

    EPMD, EPMDCTL, EPMD_EXPORTER   the programs of the image, with the libraries that they are linked to, if any
Images are made here, of files of this machine: nothing is fetched. Needs root and podman (harness.podman).
"""

import glob
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import unittest

import harness
from harness.environment import as_root_only
from harness.podman import Podman

CONTAINER = os.path.join(harness.ROOT, 'packaging', 'container')
EXPORTER = os.environ.get('EPMD_EXPORTER')
ERLANG = '/usr/lib/erlang'
UID = 4369


def load_yaml(name):
    """All documents of a file. Debian's Python has the module; this one need not."""
    script = 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))'
    with open(os.path.join(CONTAINER, name)) as file:
        done = subprocess.run(['/usr/bin/python3', '-c', script], stdin=file, capture_output=True, check=False)
    if b'No module named' in done.stderr:
        raise unittest.SkipTest('no python3-yaml here')
    assert done.returncode == 0, done
    return json.loads(done.stdout)


class Image:
    """Files for an image."""

    def __init__(self, archive):
        self.archive = archive
        self._names = set()

    def add(self, path, name=None):
        name = (name or path).lstrip('/')
        if name not in self._names:
            self._names.add(name)
            self.archive.add(os.path.realpath(path), name)

    def add_program(self, path, name=None):
        """With the libraries that it is linked to, none if it is static."""
        self.add(path, name)
        listed = subprocess.run(['ldd', path], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r'(?:=> |^\s)(/\S+)', listed, re.M):
            self.add(library)

    def add_text(self, name, text):
        file = tarfile.TarInfo(name.lstrip('/'))
        data = text.encode()
        file.size = len(data)
        self.archive.addfile(file, io.BytesIO(data))

    def add_directory(self, name, mode=0o755, owner=0):
        directory = tarfile.TarInfo(name.lstrip('/'))
        directory.type, directory.mode, directory.uid, directory.gid = tarfile.DIRTYPE, mode, owner, owner
        self.archive.addfile(directory)


def evermap(archive):
    """The last stage of the Dockerfile."""
    image = Image(archive)
    for program, path in (('epmd', harness.EPMD), ('epmdctl', harness.EPMDCTL), ('epmd-exporter', EXPORTER)):
        if path:
            image.add_program(path, f'/usr/bin/{program}')
    image.add_text('/etc/passwd', f'root:x:0:0::/:/\nevermap:x:{UID}:{UID}::/run/evermap:/\n')
    image.add_directory('/run/evermap', owner=UID)


def of_dockerfile():
    """The instructions of its last stage that are about how the image is run."""
    with open(os.path.join(CONTAINER, 'Dockerfile')) as file:
        last_stage = file.read().split('\nFROM ')[-1]
    return re.findall(r'^(?:USER|ENV|VOLUME|EXPOSE|ENTRYPOINT|CMD) .*$', last_stage, re.M)


def node(archive):
    """In the place of erlang:27: this machine's Erlang, and a shell."""
    image = Image(archive)
    image.add_program(shutil.which('busybox'), '/bin/busybox')
    for command in ('sh', 'sleep', 'hostname', 'cut', 'cat', 'sed', 'dirname', 'basename', 'readlink', 'expr', 'uname'):
        link = tarfile.TarInfo(f'bin/{command}')
        link.type, link.linkname = tarfile.SYMTYPE, '/bin/busybox'
        archive.addfile(link)
    for directory in (*glob.glob(f'{ERLANG}/erts-*/bin'), f'{ERLANG}/bin', f'{ERLANG}/releases', *glob.glob(f'{ERLANG}/lib/kernel-*/ebin'),
                      *glob.glob(f'{ERLANG}/lib/stdlib-*/ebin')):
        archive.add(directory, directory.lstrip('/'))
    for program in glob.glob(f'{ERLANG}/erts-*/bin/*'):
        image.add_program(os.path.realpath(program), program)
    link = tarfile.TarInfo('usr/bin/erl')
    link.type, link.linkname = tarfile.SYMTYPE, f'{ERLANG}/bin/erl'
    archive.addfile(link)
    image.add_text('/etc/passwd', 'root:x:0:0::/:/bin/sh\n')
    image.add_text('/etc/nsswitch.conf', 'hosts: files\n')
    image.add_directory('/tmp', 0o1777)


@as_root_only
@unittest.skipIf(harness.INSTRUMENTED or harness.TESTING_STOCK, 'the image is of ours as they are released')
class PodmanTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        if not shutil.which('busybox') or not os.path.isdir(ERLANG):
            raise unittest.SkipTest('needs busybox and Erlang')
        cls.podman = cls.enterClassContext(Podman())
        cls.podman.make_image('evermap', evermap, of_dockerfile())
        cls.podman.make_image('erlang:27', node, ['CMD ["erl"]'])
        cls.podman('tag', 'erlang:27', 'busybox')

    def tearDown(self):
        self.podman('pod', 'rm', '--all', '--force', '--time', '0')
        self.podman('rm', '--all', '--force', '--time', '0', '--depend', check=False)
        self.podman('volume', 'rm', '--all', '--force')

    # What is asked of the containers.

    def names(self, mapper):
        # In the container: no other process is in its network.
        listed = self.podman('exec', mapper, '/usr/bin/epmd', '-names', check=False)
        return set(re.findall(r'^name (\S+) at port', listed, re.M))

    def wait_names(self, mapper, *names):
        def describe():
            return f'{names} are registered: {self.podman("exec", mapper, "/usr/bin/epmd", "-names", check=False)!r}; ' \
                   f'{self.podman("ps", "--all", check=False)}; {self.podman("logs", mapper, check=False)}'
        harness.wait_until(lambda: self.names(mapper) == set(names), describe)

    def creation(self, mapper, name, directory='/run/evermap'):
        shown = self.podman('exec', mapper, '/usr/bin/epmdctl', '--registry', f'{directory}/registry.4369', '--json', 'lookup', name)
        return json.loads(shown)['creation']

    def running(self, name):
        return self.podman.inspect(name)['State']['Running']

    def start_pod(self, *options):
        """A mapper and a node in a pod, and so in one network."""
        self.podman('pod', 'create', '--name', 'pod', '--network', 'none', '--share', 'net,ipc,uts')
        self.podman('volume', 'create', '--opt', 'type=tmpfs', '--opt', 'device=tmpfs', '--opt', f'o=mode=755,uid={UID},gid={UID}', 'registry')
        # Holds the volume while the mapper's container is stopped.
        self.podman('run', '--detach', '--pod', 'pod', '--name', 'holder', '--volume', 'registry:/run/evermap', 'busybox', 'sleep', '100000')
        self.podman('run', '--detach', '--pod', 'pod', '--name', 'mapper', '--volume', 'registry:/run/evermap', *options, 'evermap')
        self.wait_healthy('mapper')
        self.start_node('hare')

    def start_node(self, name):
        self.podman('run', '--detach', '--pod', 'pod', '--name', name, 'erlang:27', 'erl', '-noshell', '-sname', name, '-setcookie', 'test',
                    '-start_epmd', 'false')
        self.wait_names('mapper', *{name} | self.names('mapper'))

    def wait_healthy(self, mapper):
        harness.wait_until(lambda: self.podman.succeeds('exec', mapper, '/usr/bin/epmd', '-started'),
                           lambda: f'the mapper answers: {self.podman("logs", mapper, check=False)}')

    # The image.

    def play(self, *options, loop=None):
        """Through all that happens to the mapper's container."""
        self.start_pod(*options)
        log = self.podman('logs', 'mapper')
        if loop is not None:
            self.assertRegex(log, f'through {loop}|{loop} is|{loop}:')
        creation = self.creation('mapper', 'hare')
        with self.subTest('upgrade'):
            self.podman('exec', 'mapper', '/usr/bin/epmdctl', 'upgrade')
            self.assertEqual(self.names('mapper'), {'hare'})
        with self.subTest('the mapper is killed in its container'):
            shown = json.loads(self.podman('exec', 'mapper', '/usr/bin/epmdctl', '--json', 'status'))
            self.assertEqual(shown['custody']['store'] if isinstance(shown['custody'], dict) else shown['custody'], 'keeper')
            self.podman('exec', 'holder', 'sh', '-c', 'true')
            self.kill_mapper()
            harness.wait_until(lambda: self.names('mapper') == {'hare'}, 'the node is there')
            self.assertTrue(self.running('mapper'))
        for how in (('restart', '--time', '5', 'mapper'), ('kill', '--signal', 'KILL', 'mapper')):
            with self.subTest(how):
                self.podman(*how)
                if how[0] == 'kill':
                    harness.wait_until(lambda: not self.running('mapper'), 'it is dead')
                    self.podman('start', 'mapper')
                self.wait_names('mapper', 'hare')
                self.assertEqual(self.creation('mapper', 'hare'), creation)
                self.assertTrue(self.running('hare'))

    def kill_mapper(self):
        """Kills the process that serves, which the container's first process looks after."""
        shown = json.loads(self.podman('exec', 'mapper', '/usr/bin/epmdctl', '--json', 'status'))
        # The number is that of the container's own process namespace.
        outside = self.podman('top', 'mapper', 'hpid', 'pid').splitlines()[1:]
        pid, = [host for host, inside in (line.split() for line in outside) if int(inside) == shown['pid']]
        subprocess.run(self.podman.command('kill', '-KILL', pid), check=True)

    def test_default_profile(self):
        self.play()

    def test_our_profile(self):
        self.play('--security-opt', f'seccomp={CONTAINER}/evermap-seccomp.json')

    def test_read_only_without_capabilities(self):
        self.play('--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges')

    def test_without_a_volume(self):
        """A root that cannot be written to: the mapper serves all the same."""
        self.podman('run', '--detach', '--name', 'mapper', '--network', 'none', '--read-only', '--read-only-tmpfs=false', '--cap-drop', 'ALL',
                    '--image-volume', 'ignore', 'evermap')
        self.wait_healthy('mapper')


if __name__ == '__main__':
    unittest.main()
