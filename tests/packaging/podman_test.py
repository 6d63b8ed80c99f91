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
import shlex
import shutil
import subprocess
import tarfile
import unittest

import harness
from harness.environment import as_root_only
from harness.podman import Podman, load_yaml

CONTAINER = os.path.join(harness.ROOT, 'packaging', 'container')
EXPORTER = os.environ.get('EPMD_EXPORTER')
ERLANG = '/usr/lib/erlang'
UID = 4369


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
    for program, path in (('epmd', harness.EPMD), ('epmdctl', harness.EPMDCTL)):
        image.add_program(path, f'/usr/bin/{program}')
    image.add_text('/etc/passwd', f'root:x:0:0::/:/\nevermap:x:{UID}:{UID}::/run/evermap:/\n')
    image.add_directory('/run/evermap', owner=UID)


def exporter(archive):
    """The stage of that name."""
    Image(archive).add_program(EXPORTER, '/usr/bin/epmd-exporter')


def of_dockerfile():
    """The instructions of its last stage that are about how the image is run."""
    with open(os.path.join(CONTAINER, 'Dockerfile')) as file:
        last_stage = file.read().split('\nFROM ')[-1]
    return re.findall(r'^(?:USER|ENV|VOLUME|EXPOSE|ENTRYPOINT|CMD) .*$', last_stage, re.M)


def node(archive):
    """In the place of erlang:27: this machine's Erlang, and a shell."""
    image = Image(archive)
    image.add_program(shutil.which('busybox'), '/bin/busybox')
    for command in ('sh', 'sleep', 'hostname', 'cut', 'cat', 'sed', 'dirname', 'basename', 'readlink', 'expr', 'uname', 'wget'):
        link = tarfile.TarInfo(f'bin/{command}')
        link.type, link.linkname = tarfile.SYMTYPE, '/bin/busybox'
        archive.addfile(link)
    for directory in (f'{ERLANG}/bin', f'{ERLANG}/releases', *glob.glob(f'{ERLANG}/lib/kernel-*/ebin'),
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

    def setUp(self):
        if not shutil.which('busybox') or not os.path.isdir(ERLANG):
            self.skipTest('needs busybox and Erlang')
        # Of each test its own: containers that always start again are not easily removed.
        self.podman = self.enterContext(Podman())
        self.podman.make_image('evermap', evermap, of_dockerfile())
        if EXPORTER:
            self.podman.make_image('evermap-exporter', exporter, [f'USER {UID}:{UID}'])
        self.podman.make_image('erlang:27', node, ['CMD ["erl"]', 'ENV PATH=/usr/bin:/bin'])
        self.podman('tag', 'erlang:27', 'busybox')

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
            first = self.podman.inspect('mapper')['State']['Pid']
            self.kill_mapper()
            self.wait_names('mapper', 'hare')
            self.assertEqual(self.podman.inspect('mapper')['State']['Pid'], first)
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
        """Kills the process that serves; the container's first process looks after it."""
        subprocess.run(self.podman.command('pkill', '-KILL', '-P', str(self.podman.inspect('mapper')['State']['Pid'])), check=True)

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

    # The compose file.

    def start_service(self, name, service):
        """As `docker compose` starts it; what this does not know is an error."""
        options = ['--detach', '--name', name]
        for key, value in service.items():
            if key == 'image':
                image = value
            elif key == 'network_mode':
                options += ['--network', value.replace('service:', 'container:')]
            elif key == 'volumes':
                options += [option for volume in value for option in ('--volume', volume)]
            elif key == 'security_opt':
                options += [option for each in value for option in ('--security-opt', each.replace('=./', f'={CONTAINER}/'))]
            elif key == 'cap_drop':
                options += [option for each in value for option in ('--cap-drop', each)]
            elif key == 'healthcheck':
                if not value.get('disable'):
                    self.assertEqual(value['test'][0], 'CMD')
                    options += ['--health-cmd', json.dumps(value['test'][1:]), '--health-timeout', value['timeout']]
            elif key == 'entrypoint':
                options += ['--entrypoint', json.dumps(value)]
            elif key == 'restart':
                options += ['--restart', value]
            elif key in ('init', 'read_only'):
                options += [f'--{key.replace("_", "-")}={json.dumps(value)}']
            else:
                self.assertIn(key, ('build', 'command', 'depends_on'))
        self.podman('run', *options, image, *shlex.split(service.get('command', '')))

    def start_services(self):
        compose, = load_yaml(f'{CONTAINER}/docker-compose.yml')
        for name, volume in compose['volumes'].items():
            self.podman('volume', 'create', *[text for key, value in volume['driver_opts'].items() for text in ('--opt', f'{key}={value}')], name)
        started = []
        while len(started) < len(compose['services']):
            name = next(name for name, service in compose['services'].items()
                        if name not in started and set(service.get('depends_on', [])) <= set(started))
            self.start_service(name, compose['services'][name])
            started.append(name)
            if 'disable' not in compose['services'][name].get('healthcheck', {'disable': True}):
                harness.wait_until(lambda n=name: self.podman.succeeds('healthcheck', 'run', n), lambda n=name: f'{n} is healthy: {self.podman("logs", n)}')
        return started

    def restart(self, name):
        self.podman('restart', '--time', '3', name)

    def kill(self, name):
        """Its first process, as whatever ends it without being asked: who says `podman kill` does not want it back."""
        subprocess.run(self.podman.command('kill', '-KILL', str(self.podman.inspect(name)['State']['Pid'])), check=True)

    def first_processes(self, names):
        return {name: self.podman.inspect(name)['State']['Pid'] for name in names}

    def check_services(self):
        self.wait_names('epmd', 'web', 'telnet')
        harness.wait_until(lambda: 'evermap_names{state="live"} 2' in
                           self.podman('exec', 'web', 'wget', '-q', '-O', '-', 'http://127.0.0.1:14369/metrics', check=False),
                           lambda: f'the exporter shows both: {self.podman("logs", "exporter", check=False)}')

    @unittest.skipUnless(EXPORTER, 'no exporter')
    def test_compose(self):
        services = self.start_services()
        self.check_services()
        creation = self.creation('epmd', 'web')
        for name in services:
            if name == 'network':
                continue
            for how in (self.restart, self.kill):
                with self.subTest(name=name, how=how.__name__):
                    before = self.first_processes(services)
                    how(name)
                    harness.wait_until(lambda: self.first_processes([name])[name] not in (0, before[name]),  # pylint: disable=cell-var-from-loop
                                       lambda: f'it runs again: {self.podman("ps", "--all")}')
                    self.check_services()
                    after = self.first_processes(services)
                    self.assertEqual({other for other in services if before[other] != after[other]}, {name})
                    if name == 'epmd':
                        self.assertEqual(self.creation('epmd', 'web'), creation)

    @unittest.skipUnless(EXPORTER, 'no exporter')
    def test_compose_network_ends(self):
        """The others go on in the network that they have."""
        services = self.start_services()
        self.check_services()
        for how in (self.kill, self.restart):
            with self.subTest(how=how.__name__):
                before = self.first_processes(services)
                how('network')
                harness.wait_until(lambda: self.first_processes(['network'])['network'] not in (0, before['network']),  # pylint: disable=cell-var-from-loop
                                   lambda: f'it runs again: {self.podman("ps", "--all")}')
                self.check_services()
                after = self.first_processes(services)
                self.assertEqual({name for name in services if before[name] != after[name]}, {'network'})

    # The manifest.

    @unittest.skipUnless(EXPORTER, 'no exporter')
    def test_kubernetes(self):
        said = self.podman('play', 'kube', '--network', 'none', os.path.join(CONTAINER, 'kubernetes.yaml'))
        names = [f'web-pod-0-{name}' for name in ('epmd', 'web', 'exporter')]
        mapper = names[0]
        harness.wait_until(lambda: self.podman.succeeds('exec', mapper, '/usr/bin/epmd', '-started'),
                           lambda: f'the mapper answers: {said} {self.podman("logs", mapper, check=False)}')
        self.wait_names(mapper, 'web')
        creation = self.creation(mapper, 'web', '/run/evermap/own')
        deployment, = [document for document in load_yaml(f'{CONTAINER}/kubernetes.yaml') if document['kind'] == 'Deployment']
        probe = deployment['spec']['template']['spec']['containers'][0]['readinessProbe']['exec']['command']
        self.podman('exec', mapper, *probe)
        for name in names:
            for how in (self.restart, self.kill):
                with self.subTest(name=name, how=how.__name__):
                    before = self.first_processes(names)
                    how(name)
                    harness.wait_until(lambda: self.first_processes([name])[name] not in (0, before[name]),  # pylint: disable=cell-var-from-loop
                                       lambda: f'it runs again: {self.podman("ps", "--all")}')
                    self.wait_names(mapper, 'web')
                    if name == mapper:
                        self.assertEqual(self.creation(mapper, 'web', '/run/evermap/own'), creation)
        with self.subTest('upgrade'):
            self.podman('exec', mapper, '/usr/bin/epmdctl', 'upgrade')
            self.assertEqual(self.names(mapper), {'web'})
        with self.subTest('metrics'):
            self.assertIn('evermap_names{state="live"} 1',
                          self.podman('exec', names[1], 'wget', '-q', '-O', '-', 'http://127.0.0.1:14369/metrics'))


if __name__ == '__main__':
    unittest.main()
