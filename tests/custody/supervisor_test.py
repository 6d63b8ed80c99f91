"""Supervisors: one that knows the process it has started, and nothing else.

When that process is killed the mapper lives on, with a keeper that no supervisor knows of. The next instance relieves that
one (daemon/process/keeper_relief.h). First a supervisor of this test's own, that can look; then the real ones, each with the
example of docs/supervisors.md.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from harness import HOST, Kept
from harness.custody import CustodyCase
from harness.environment import UNPACKED
from harness.epmdctl import creations, epmdctl, status

NODES = 300  # more than go into one message between keepers
NOBODY = 65534


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


class SupervisedCase(CustodyCase):

    def next_instance(self, mapper):
        """Starts what a supervisor starts next, and waits until it is the keeper."""
        before = mapper.log() if os.path.exists(mapper.log_path) else ''
        mapper.start(answering=False)
        harness.wait_until(lambda: 'takes the place of keeper' in mapper.log()[len(before):],
                           lambda: f'it relieves: {mapper.log()}; it ended: {not mapper.alive()}')

    def killed(self, mapper):
        os.kill(mapper.pid, signal.SIGKILL)
        self.assertEqual(mapper.wait(), -signal.SIGKILL)

    def stray(self, mapper):
        """The keeper that a mapper has started."""
        served_by = mapper.mapper_pid()
        return harness.wait_until(lambda: mapper.family() - {served_by}, 'another keeper').pop()

    def assert_kept(self, mapper, before):
        self.check_kept(mapper, before)
        # A mapper and one keeper, which is the one that the supervisor knows.
        harness.wait_until(lambda: mapper.family() == {mapper.pid, mapper.mapper_pid()},
                           lambda: f'{mapper.family()}: {mapper.pid} and {mapper.mapper_pid()}')


class ReliefTest(SupervisedCase):

    def test_killed_again_and_again(self):
        mapper = self.kept()
        self.register(mapper, NODES)
        before = creations(mapper)
        served_by = mapper.mapper_pid()
        # At once, as s6 does, and when all has come to rest, as after a pause.
        for pause_s in (0, 0, 0.05, 1.2, 0):
            with self.subTest(pause_s=pause_s):
                self.killed(mapper)
                time.sleep(pause_s)
                self.next_instance(mapper)
                self.assert_kept(mapper, before)
                self.assertEqual(mapper.mapper_pid(), served_by)

    def test_the_newcomer_keeps(self):
        """It has all that the stray one had: when the mapper dies it starts the next, and that has every node."""
        mapper = self.kept()
        self.register(mapper, NODES)
        before = creations(mapper)
        for _ in range(2):
            served_by = mapper.mapper_pid()
            self.killed(mapper)
            stray = self.stray(mapper)
            harness.wait_until(lambda: len(os.listdir(f'/proc/{stray}/fd')) > NODES, 'it holds the connections')
            self.next_instance(mapper)
            os.kill(served_by, signal.SIGKILL)
            harness.wait_until(lambda: status(mapper)['running'] and mapper.mapper_pid() != served_by, 'another mapper')
            self.assert_kept(mapper, before)
            connected = [state for state in epmdctl(mapper, 'list').stdout.splitlines() if 'orphan' in state]
            self.assertEqual(connected, [])
        self.assertEqual(mapper.stop(), 0)
        self.assertEqual(mapper.family(), set())

    def test_upgrade_and_end(self):
        mapper = self.kept()
        self.register(mapper, 20)
        before = creations(mapper)
        self.killed(mapper)
        self.next_instance(mapper)
        served_by = mapper.mapper_pid()
        done = mapper.upgraded()
        self.assertEqual(done.returncode, 0, done)
        self.assertNotEqual(mapper.mapper_pid(), served_by)
        self.assert_kept(mapper, before)
        # A stray keeper that has followed an upgrade is one still.
        self.killed(mapper)
        self.stray(mapper)
        self.assertEqual(mapper.upgraded().returncode, 0)
        self.next_instance(mapper)
        self.assert_kept(mapper, before)
        self.assertEqual(mapper.stop(), 0)
        harness.wait_until(lambda: not mapper.family(), 'all ended')

    def test_newcomer_that_dies_on_the_way(self):
        mapper = self.kept()
        self.register(mapper, NODES)
        before = creations(mapper)
        self.killed(mapper)
        stray = self.stray(mapper)
        mapper.binary = harness.EPMD_FAULTS
        mapper._env = {'EPMD_FAULTS': 'keeper:relieves=kill'}
        mapper.start(answering=False)
        self.assertEqual(mapper.wait(), -signal.SIGKILL)
        self.assertTrue(harness.process_exists(stray))
        mapper._env = {}
        mapper.binary = harness.EPMD
        self.next_instance(mapper)
        self.assert_kept(mapper, before)

    def test_supervisor_that_dies(self):
        """It leaves an instance behind that the next supervisor knows nothing of."""
        mapper = Kept()
        self.addCleanup(mapper.close)
        leaver = subprocess.Popen(
            [sys.executable, '-c', 'import subprocess, sys, time\nsubprocess.Popen(sys.argv[1:])\ntime.sleep(600)',
             *mapper.command()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=harness.clean_environment())
        self.addCleanup(leaver.wait)
        self.addCleanup(leaver.kill)

        def answers():
            with contextlib.suppress(OSError):
                return mapper.request(b'n')
        harness.wait_until(answers, 'the mapper answers')
        self.register(mapper, 20)
        before = creations(mapper)
        second = harness.run_epmd(*mapper.command()[1:])
        self.assertEqual((second.returncode, second.stderr), (0, b''), 'attended')
        leaver.kill()
        leaver.wait()
        self.next_instance(mapper)
        self.assert_kept(mapper, before)

    def test_attended_ones_are_left_alone(self):
        mapper = self.kept()
        pid = mapper.mapper_pid()
        begun = time.monotonic()
        second = harness.run_epmd(*mapper.command()[1:])
        self.assertEqual((second.returncode, second.stderr), (0, b''))
        self.assertLess(time.monotonic() - begun, 4)
        self.assertEqual(mapper.family(), {mapper.pid, pid})

    @harness.as_root_only
    def test_another_user_relieves_nobody(self):
        mapper = self.kept()
        os.chmod(mapper.directory, 0o755)
        self.killed(mapper)
        stray = self.stray(mapper)
        command = mapper.command()[1:]
        command[command.index(mapper.registry)] = os.path.join(tempfile.gettempdir(), f'evermap-{os.getpid()}')
        done = harness.run_epmd(*command, preexec_fn=as_nobody)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(harness.process_exists(stray))
        self.next_instance(mapper)

    @harness.as_root_only
    def test_not_across_process_id_namespaces(self):
        """Containers may share a network. A process id of the one means another process in the other."""
        mapper = self.kept()
        self.killed(mapper)
        stray = self.stray(mapper)
        done = subprocess.run(['unshare', '--pid', '--fork', '--kill-child', *mapper.command()], timeout=harness.PATIENCE_S,
                              capture_output=True, env=harness.clean_environment(), check=False)
        self.assertEqual(done.returncode, 0, done)
        self.assertTrue(harness.process_exists(stray))


class PidFileTest(SupervisedCase):

    def pid_in(self, path):
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            return int(file.read())

    def test_foreground(self):
        for has_keeper in (True, False):
            with self.subTest(has_keeper=has_keeper):
                directory = tempfile.mkdtemp(prefix='evermap-pid-')
                self.addCleanup(shutil.rmtree, directory)
                path = os.path.join(directory, 'pid')
                with open(path, 'w') as file:
                    file.write('1\n')  # left by another
                mapper = Kept(args=['-pidfile', path]) if has_keeper else harness.Mapper(args=['-pidfile', path])
                with mapper:
                    harness.wait_until(lambda: self.pid_in(path) == mapper.pid, 'its pid')
                    # One that finds the port taken writes nothing.
                    self.assertEqual(harness.run_epmd(*mapper.command()[1:]).returncode, 0)
                    self.assertEqual(self.pid_in(path), mapper.pid)
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)
                    if has_keeper:
                        self.killed(mapper)
                        stray = self.stray(mapper)
                        harness.wait_until(lambda: self.pid_in(path) == stray, 'the pid of the stray one')
                        self.next_instance(mapper)
                        harness.wait_until(lambda: self.pid_in(path) == mapper.pid, 'its pid')
                    mapper.stop()
                    self.assertEqual(os.listdir(directory), [])

    def test_daemon(self):
        """As OpenRC and scripts of init do it: the file is there when -daemon returns, whoever was killed before."""
        mapper = Kept(args=['-daemon'])
        self.addCleanup(mapper.close)
        path = os.path.join(mapper.directory, 'pid')
        command = [*mapper.command()[1:], '-pidfile', 'pid']
        before = None
        for _ in range(3):
            self.assertEqual(harness.run_epmd(*command, cwd=mapper.directory).returncode, 0)
            keeper = self.pid_in(path)
            self.assertIn(keeper, mapper.family())
            if before is None:
                self.register(mapper, 20)
                before = creations(mapper)
            self.check_kept(mapper, before)
            os.kill(keeper, signal.SIGKILL)
            harness.wait_until(lambda: not harness.process_exists(keeper), 'its end')
            # The mapper's own keeper is as good: whoever looks at the file sees a process that lives.
            harness.wait_until(lambda: self.pid_in(path) in mapper.family(), 'the pid of another')
        os.kill(self.pid_in(path), signal.SIGTERM)
        harness.wait_until(lambda: not mapper.family(), 'all ended')
        self.assertFalse(os.path.exists(path))

    def test_file_that_cannot_be_written(self):
        mapper = self.kept(args=['-pidfile', '/proc/nowhere/pid'])
        harness.wait_until(lambda: '-pidfile: /proc/nowhere/pid cannot be written: ' in mapper.log(), mapper.log)
        self.assertEqual(mapper.log().count('pidfile'), 1)


LIBRARIES = ':'.join(os.path.join(UNPACKED, folder) for folder in ('usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'))


def program(name):
    """A supervisor's program: in PATH, or where tools/setup unpacks it; else None."""
    folders = [os.path.join(UNPACKED, folder) for folder in ('usr/bin', 'usr/sbin', 'bin', 'sbin')]
    return shutil.which(name) or shutil.which(name, path=':'.join(folders))


def needs(*names):
    return unittest.skipUnless(all(program(name) for name in names), f'no {", ".join(names)} here (tools/setup unpacks it)')


class RealSupervisorTest(SupervisedCase):
    """What docs/supervisors.md shows, with a port and paths of the test's own."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix='evermap-supervisor-')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.write('log', '', mode=0o644)

    def write(self, name, text, mode=0o755):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def supervise(self, command, **changes):
        environment = harness.clean_environment(
            LD_LIBRARY_PATH=LIBRARIES, PATH=os.path.join(UNPACKED, 'usr/bin') + ':' + os.environ['PATH'], **changes)
        log = open(os.path.join(self.directory, 'log'), 'ab')
        self.addCleanup(log.close)
        supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                      cwd=self.directory)
        self.addCleanup(supervisor.wait)
        self.addCleanup(lambda: supervisor.poll() is None and supervisor.kill())
        return supervisor

    def said(self):
        with open(os.path.join(self.directory, 'log'), errors='replace') as log:
            return log.read()

    def check_restarts(self, mapper, supervised, kills=3):
        """Kills what the supervisor supervises, again and again. supervised() is the pid that it says, or None."""
        def answers():
            with contextlib.suppress(OSError):
                return mapper.request(b'n')
        harness.wait_until(answers, lambda: f'the mapper answers: {self.said()}')
        self.register(mapper, 20)
        before = creations(mapper)
        served_by = mapper.mapper_pid()
        for _ in range(kills):
            pid = harness.wait_until(supervised, lambda: f'a supervised process: {self.said()}')
            harness.wait_until(lambda p=pid: mapper.family() == {p, served_by}, lambda: f'{mapper.family()}: {self.said()}')
            os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda p=pid: supervised() not in (None, p), lambda: f'another process: {self.said()}')
            self.check_kept(mapper, before)
        pid = supervised()
        harness.wait_until(lambda: mapper.family() == {pid, served_by}, lambda: f'{mapper.family()} {pid}: {self.said()}')
        # And it stays.
        time.sleep(1.5)
        self.assertEqual(mapper.family(), {supervised(), served_by}, self.said())
        return supervised()

    def new_mapper(self, *args):
        mapper = Kept(args=list(args))
        self.addCleanup(mapper.close)
        return mapper

    @needs('s6-supervise', 's6-svstat', 's6-svc')
    def test_s6(self):
        mapper = self.new_mapper()
        self.write('epmd/run', '#!/bin/sh\nexec ' + ' '.join(mapper.command()) + '\n')
        self.supervise([program('s6-supervise'), 'epmd'])

        def ask(*command):
            return subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False,
                                  env={'LD_LIBRARY_PATH': LIBRARIES}).stdout

        def supervised():
            pid = ask(program('s6-svstat'), '-o', 'pid', 'epmd').strip()
            return int(pid) if pid.isdigit() else None
        self.check_restarts(mapper, supervised)
        ask(program('s6-svc'), '-d', 'epmd')
        harness.wait_until(lambda: not mapper.family(), self.said)
        ask(program('s6-svc'), '-x', 'epmd')

    @needs('runsv', 'sv')
    def test_runit(self):
        mapper = self.new_mapper()
        self.write('epmd/run', '#!/bin/sh\nexec ' + ' '.join(mapper.command()) + ' 2>&1\n')
        self.supervise([program('runsv'), 'epmd'])

        def supervised():
            with contextlib.suppress(OSError, ValueError), open(os.path.join(self.directory, 'epmd/supervise/pid')) as file:
                return int(file.read())
        self.check_restarts(mapper, supervised)
        subprocess.run([program('sv'), 'exit', './epmd'], cwd=self.directory, check=False, capture_output=True)
        harness.wait_until(lambda: not mapper.family(), self.said)

    @needs('supervisord', 'supervisorctl')
    def test_supervisord(self):
        mapper = self.new_mapper()
        self.write('supervisord.conf', f"""[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={self.directory}/supervisord.pid
[unix_http_server]
file={self.directory}/socket
[supervisorctl]
serverurl=unix://{self.directory}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:epmd]
command={' '.join(mapper.command())}
autorestart=true
stopwaitsecs=20
stopasgroup=false
killasgroup=false
stdout_logfile={self.directory}/log
stderr_logfile={self.directory}/log
""")
        packages = os.path.join(UNPACKED, 'usr/lib/python3/dist-packages')
        configured = ['-c', os.path.join(self.directory, 'supervisord.conf')]
        self.supervise([sys.executable, program('supervisord'), *configured], PYTHONPATH=packages)

        def control(*words):
            return subprocess.run([sys.executable, program('supervisorctl'), *configured, *words], capture_output=True, text=True,
                                  check=False, env={**os.environ, 'PYTHONPATH': packages}).stdout.strip()

        def supervised():
            pid = control('pid', 'epmd')
            return int(pid) if pid.isdigit() and int(pid) > 0 else None
        self.check_restarts(mapper, supervised)
        self.assertIn('stopped', control('stop', 'epmd'))
        harness.wait_until(lambda: not mapper.family(), self.said)

    @needs('supervise-daemon')
    @harness.as_root_only
    def test_openrc(self):
        mapper = self.new_mapper()
        command = mapper.command()
        pid_file = os.path.join(self.directory, 'pid')
        # What openrc-run runs for an init script with supervisor=supervise-daemon, in a /run of its own.
        self.supervise(['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /run && mkdir -p /run/openrc/options/epmd && exec "$@"',
                        'sh', program('supervise-daemon'), 'epmd', '--start', '--pidfile', pid_file, '--respawn-delay', '1',
                        '--respawn-max', '0', '--stdout', os.path.join(self.directory, 'log'), '--stderr',
                        os.path.join(self.directory, 'log'), command[0], '--', *command[1:]], RC_SVCNAME='epmd')

        def supervisor():
            with contextlib.suppress(OSError, ValueError), open(pid_file) as file:
                return int(file.read())

        def supervised():
            with contextlib.suppress(OSError, ValueError):
                pid = supervisor()
                with open(f'/proc/{pid}/task/{pid}/children') as file:
                    pids = file.read().split()
                return int(pids[0]) if pids else None
        self.addCleanup(lambda: supervisor() and harness.end_process(supervisor()))
        self.check_restarts(mapper, supervised)
        harness.end_process(supervisor())
        harness.wait_until(lambda: not mapper.family(), self.said)

    @needs('start-stop-daemon')
    def test_start_stop_daemon(self):
        """Debian's; OpenRC's does the same with these options."""
        mapper = self.new_mapper('-daemon')
        pid_file = os.path.join(self.directory, 'pid')
        command = [*mapper.command(), '-pidfile', pid_file]

        def start_stop(*words):
            return subprocess.run([program('start-stop-daemon'), *words], check=False, capture_output=True, timeout=60,
                                  env=harness.clean_environment()).returncode
        start = ('--start', '--oknodo', '--pidfile', pid_file, '--exec', command[0], '--', *command[1:])

        def supervised():
            with contextlib.suppress(OSError, ValueError), open(pid_file) as file:
                pid = int(file.read())
                return pid if harness.process_exists(pid) else None
        self.assertEqual(start_stop(*start), 0)
        self.check_restarts(mapper, supervised)
        self.assertEqual(start_stop(*start), 0)
        self.assertEqual(start_stop('--stop', '--pidfile', pid_file, '--retry', 'TERM/20'), 0)
        harness.wait_until(lambda: not mapper.family(), self.said)
        self.assertFalse(os.path.exists(pid_file))

    @needs('monit')
    def test_monit(self):
        mapper = self.new_mapper('-daemon')
        pid_file = os.path.join(self.directory, 'pid')
        start = self.write('start', '#!/bin/sh\nexec ' + ' '.join([*mapper.command(), '-pidfile', pid_file]) + '\n')
        configuration = self.write('monitrc', f"""set daemon 1
set pidfile {self.directory}/monit.pid
set idfile {self.directory}/monit.id
set statefile {self.directory}/monit.state
check process epmd with pidfile {pid_file}
  start program = "{start}"
  stop program = "/bin/sh -c 'kill $(cat {pid_file})'"
  if failed port {mapper.port} for 2 cycles then alert
""", mode=0o600)
        self.supervise([program('monit'), '-I', '-c', configuration])

        def supervised():
            with contextlib.suppress(OSError, ValueError), open(pid_file) as file:
                pid = int(file.read())
                return pid if harness.process_exists(pid) else None
        self.check_restarts(mapper, supervised)


if __name__ == '__main__':
    unittest.main()
