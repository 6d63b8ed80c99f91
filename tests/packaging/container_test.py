"""What packaging/container/ promises, without a container engine: the same restrictions around the real mapper."""

import ctypes
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import ErlangNode, Mapper
from harness.podman import load_yaml

CONTAINER = os.path.join(harness.ROOT, 'packaging', 'container')
EXPORTER = os.environ.get('EPMD_EXPORTER')

_ALLOW = 0x7fff0000
_ERRNO = 0x00050000
_MASKED_EQ = 7


class _Comparison(ctypes.Structure):
    _fields_ = [('arg', ctypes.c_uint), ('op', ctypes.c_int), ('datum_a', ctypes.c_uint64), ('datum_b', ctypes.c_uint64)]


class Profile:
    """A seccomp profile in the form of the OCI runtimes, loaded as they do it: with libseccomp."""

    def __init__(self, profile):
        library = ctypes.util.find_library('seccomp')
        if library is None:
            raise unittest.SkipTest('no libseccomp here')
        self._lib = ctypes.CDLL(library)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._lib.seccomp_init.argtypes = [ctypes.c_uint32]
        self._lib.seccomp_load.argtypes = [ctypes.c_void_p]
        self._lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                                     ctypes.POINTER(_Comparison)]
        assert profile['defaultAction'] == 'SCMP_ACT_ERRNO'
        self._context = self._lib.seccomp_init(_ERRNO | profile['defaultErrnoRet'])
        for rule in profile['syscalls']:
            action = _ALLOW if rule['action'] == 'SCMP_ACT_ALLOW' else _ERRNO | rule['errnoRet']
            comparisons = (_Comparison * 6)()
            for place, argument in enumerate(rule.get('args', [])):
                assert argument['op'] == 'SCMP_CMP_MASKED_EQ'
                comparisons[place] = _Comparison(argument['index'], _MASKED_EQ, argument['value'], argument['valueTwo'])
            for name in rule['names']:
                number = self._lib.seccomp_syscall_resolve_name(name.encode())
                if number < 0:  # of another architecture
                    continue
                if self._lib.seccomp_rule_add_array(self._context, action, number, len(rule.get('args', [])), comparisons):
                    raise AssertionError(name)

    def load(self):
        """Puts this process under it, for good."""
        if self._lib.seccomp_load(self._context) != 0:
            os._exit(99)


@harness.ours_only
class SeccompTest(unittest.TestCase):

    def setUp(self):
        with open(os.path.join(CONTAINER, 'evermap-seccomp.json')) as file:
            self.profile = json.load(file)

    def check(self, profile, loop):
        """The mapper chooses `loop` by itself, and real nodes register, find each other and leave."""
        directory = tempfile.mkdtemp(prefix='evermap-container-')
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        with Mapper(loop='auto', before_exec=Profile(profile).load, directory=directory) as mapper:
            self.assertRegex(mapper.log(), f'through {loop}|{loop} is|{loop}:')
            lines = [line for line in mapper.log().splitlines() if re.search('io_uring|epoll', line)]
            self.assertEqual(len(lines), 1, mapper.log())
            if loop == 'epoll':
                self.assertIn('io_uring', lines[0])  # why not
            names = [f'hare{os.getpid()}', f'rabbit{os.getpid()}']
            nodes = [ErlangNode(name, mapper.port, directory) for name in names]
            for node in nodes:
                self.addCleanup(node.close)
            for name in names:
                mapper.wait_registered(name.encode())
            host = nodes[1].evaluate('node()').strip("'").split('@')[1]
            self.assertEqual(nodes[0].evaluate(f"net_adm:ping('{names[1]}@{host}')"), 'pong')
            for node in nodes:
                node.kill()
            harness.wait_until(lambda: not mapper.names(), 'both are gone')
            self.assertEqual(mapper.stop(), 0)

    @harness.have_erlang
    def test_profile_of_ours_allows_io_uring(self):
        if 'io_uring' not in self.loop_without_profile():
            self.skipTest('no io_uring here')
        self.check(self.profile, 'io_uring')

    @harness.have_erlang
    def test_default_profile_refuses_io_uring(self):
        """As Docker's since 24.0 and containerd's since 2.0."""
        for rule in self.profile['syscalls']:
            rule['names'] = [name for name in rule['names'] if not name.startswith('io_uring_')]
        self.check(self.profile, 'epoll')

    def loop_without_profile(self):
        with Mapper(loop='auto') as mapper:
            return mapper.log()

    def test_profile_keeps_out_what_it_should(self):
        allowed = {name for rule in self.profile['syscalls'] if rule['action'] == 'SCMP_ACT_ALLOW' for name in rule['names']}
        self.assertLessEqual({'io_uring_setup', 'io_uring_enter', 'io_uring_register', 'accept4', 'execve'}, allowed)
        self.assertEqual(allowed & {'mount', 'setns', 'unshare', 'bpf', 'ptrace', 'keyctl', 'init_module', 'kexec_load', 'reboot',
                                    'perf_event_open', 'clone3', 'pivot_root', 'userfaultfd'}, set())
        with self.subTest('new name spaces'):
            libc = ctypes.CDLL(None, use_errno=True)
            pid = os.fork()
            if pid == 0:
                Profile(self.profile).load()
                clone_newuser = 0x10000000
                os._exit(0 if libc.syscall(56 if os.uname().machine == 'x86_64' else 220, clone_newuser | 17, 0, 0, 0, 0) < 0
                         and libc.unshare(clone_newuser) < 0 else 1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


class FilesTest(unittest.TestCase):

    def test_kubernetes(self):
        documents = load_yaml(f'{CONTAINER}/kubernetes.yaml')
        self.assertEqual([document['kind'] for document in documents], ['Service', 'Deployment'])
        service, pods = (document['spec'] for document in documents)
        self.assertEqual(service['selector'], pods['template']['metadata']['labels'])
        volumes = {volume['name'] for volume in pods['template']['spec']['volumes']}
        for container in pods['template']['spec']['containers']:
            self.assertLessEqual({mount['name'] for mount in container.get('volumeMounts', [])}, volumes)

    def test_compose(self):
        compose, = load_yaml(f'{CONTAINER}/docker-compose.yml')
        for name, service in compose['services'].items():
            if name != 'network':
                # A mapper takes registrations only from its own network namespace.
                self.assertEqual(service['network_mode'], 'service:network')
        _, option = compose['services']['epmd']['security_opt']
        self.assertTrue(os.path.exists(os.path.join(CONTAINER, option.removeprefix('seccomp='))))

    @unittest.skipUnless(shutil.which('dpkg-query') and EXPORTER, 'needs dpkg and the programs')
    def test_image_has_the_libraries(self):
        """The packages of the exporter's image, with what they depend on, have all that it is linked to. The mapper's has no libraries."""
        with open(os.path.join(CONTAINER, 'Dockerfile')) as file:
            stage = file.read().split(' AS exporter\n')[1].split('\nFROM ')[0]
        installed = set(re.findall(r'\blib[\w.+-]+', re.search(r'apt-get install(.*?)&&', stage, re.S)[1]))
        with_dependencies = set(installed)
        for package in installed:
            listing = subprocess.run(['apt-cache', 'depends', '--recurse', '--no-recommends', '--no-suggests', '--no-conflicts',
                                      '--no-breaks', '--no-replaces', '--no-enhances', package], capture_output=True, text=True,
                                     check=True).stdout
            with_dependencies |= set(re.findall(r'^(\S+)$', listing, re.M))
        listing = subprocess.run(['ldd', EXPORTER], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r'=> (/\S+)', listing):
            if harness.INSTRUMENTED or 'evermap' in library:
                continue
            found = ''
            for path in (os.path.realpath(library), library, library.replace('/usr/lib', '/lib'), '/usr' + library):
                found = found or subprocess.run(['dpkg-query', '-S', path], capture_output=True, text=True, check=False).stdout
            self.assertIn(found.split(':')[0], with_dependencies, f'the exporter needs {library}')

    def test_image_copies_what_is_built(self):
        with open(os.path.join(CONTAINER, 'Dockerfile')) as file:
            text = file.read()
        for program in ('epmd', 'epmdctl', 'epmd-exporter'):
            self.assertRegex(text, f'COPY --from=.*/installed/usr/bin/{program} ')


if __name__ == '__main__':
    unittest.main()
