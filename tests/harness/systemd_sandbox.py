"""A real systemd on a copy of this machine's files, for tests of packages and services. Needs root.

    with SystemdSandbox() as sandbox:
        sandbox.run('dpkg -i evermap.deb')          # changes nothing outside
        sandbox.run('systemctl start epmd.service')

systemd is process 1 of process, mount, control-group, network, IPC and host-name namespaces of its own. Its root is an
overlay of this machine's, or of a tree of another release (tools/project/tree): what is written stays in memory and goes with
the sandbox. Its network is a loopback interface. Its control groups are the unified hierarchy where a tree is given, since
systemd 256 knows no other one.
Units are only those that a command starts: nothing of this machine's own is. What is written to the directory
$SANDBOX_SHARED, if there is one, is written to the machine's (tools/project/coverage).
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import unittest

from harness.network import in_network_of
from harness.process import ENDS_WITH_ITS_TEST, child_named, wait_until

_BOOT = '''
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$SANDBOX_LOWER,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
cd /mnt/root
mount --rbind /dev dev
if [ "$SANDBOX_LOWER" = / ]; then
  mount --rbind /sys sys
else
  mount -t sysfs sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
for directory in $SANDBOX_BOUND; do
  mkdir -p "/mnt/root$directory"
  mount --rbind "$directory" "/mnt/root$directory"
done
mount -t proc proc proc
[ -z "$SANDBOX_SHARED" ] || mount --bind "$SANDBOX_SHARED" "/mnt/root$SANDBOX_SHARED"
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/systemd/system run/lock
# The host may keep packages from starting services; here they are to do it.
rm -f usr/sbin/policy-rc.d
# Nothing but the mapper is enabled here, and nothing asks the network for names.
find etc/systemd/system -path '*.wants/*' ! -name 'epmd*' -delete
[ -s etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
# Units that services pull in and that would empty /tmp, or change the kernel that all share.
for unit in tmpfiles-setup tmpfiles-setup-dev tmpfiles-clean sysctl binfmt modules-load udevd udev-trigger random-seed \
  remount-fs machine-id-commit; do
  ln -s /dev/null run/systemd/system/systemd-$unit.service
done
for unit in tmp.mount proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
  systemd-udevd-control.socket systemd-udevd-kernel.socket; do
  ln -s /dev/null run/systemd/system/$unit
done
printf '127.0.0.1 sandbox localhost\\n' >etc/hosts
printf '[Unit]\\nDescription=Sandbox\\n' >run/systemd/system/sandbox.target
ip link set lo up
echo sandbox >etc/hostname
pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=sandbox PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --system --unit=sandbox.target --log-target=null --show-status=no
'''


def _make_control_group():
    """A group of its own in the unified hierarchy, for the root of the sandbox's."""
    with open('/proc/mounts') as mounts:
        hierarchies = [line.split()[1] for line in mounts if line.split()[2] == 'cgroup2']
    if not hierarchies:
        raise unittest.SkipTest('no unified hierarchy of control groups here')
    group = tempfile.mkdtemp(prefix='evermap-sandbox-', dir=hierarchies[0])
    return group


def _enter_control_group(group):
    with open(os.path.join(group, 'cgroup.procs'), 'w') as processes:
        processes.write('0')


def _remove_control_group(group):
    """Whether it is gone: processes that were killed leave it a moment later."""
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not os.path.exists(group)


class SystemdSandbox:

    def __init__(self, tree='/', bound=()):
        """tree: what is seen of its files are those that it has now. bound: directories that are the machine's inside, too."""
        if os.geteuid() != 0 or not os.path.exists(os.path.join(tree, 'lib/systemd/systemd')):
            raise unittest.SkipTest('needs root and systemd')
        self._group = _make_control_group() if tree != '/' else None
        self._process = subprocess.Popen(
            [*ENDS_WITH_ITS_TEST, 'unshare', '--pid', '--fork', '--kill-child', '--mount', '--cgroup', '--ipc', '--uts', '--net', 'sh', '-c', _BOOT],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, 'SANDBOX_LOWER': tree, 'SANDBOX_BOUND': ' '.join(bound)},
            preexec_fn=self._group and (lambda: _enter_control_group(self._group)))
        self._init = None

    def __enter__(self):
        try:
            self._init = wait_until(self._started, 'systemd runs')
            wait_until(self._answers, 'systemd answers')
        except BaseException:
            self.close()
            raise
        return self

    def _started(self):
        if self._process.poll() is not None:
            raise unittest.SkipTest('no sandbox here: ' + self._process.stderr.read().decode().strip())
        return child_named(self._process.pid, 'systemd')

    def _answers(self):
        return self.run('systemctl is-system-running', check=False).stdout.strip() in ('running', 'degraded')

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._process.poll() is None:
            # unshare takes process 1 with it, and that all others.
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stderr.close()
        if self._group is not None:
            wait_until(lambda: _remove_control_group(self._group), 'the control group is empty')
            self._group = None

    def command(self, *arguments):
        """What runs `arguments` inside."""
        return ['nsenter', '-t', str(self._init), '-m', '-p', '-u', '-i', '-n', '-C', '--', 'env', '-i',
                'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8',
                'DEBIAN_FRONTEND=noninteractive', *arguments]

    def network(self):
        """Sockets opened and programs started inside `with` are on the sandbox's loopback interface."""
        return in_network_of(self._init)

    def run(self, script, check=True, timeout_s=300):
        """Runs a shell script inside; returns a CompletedProcess with text, stderr in stdout. Fails when it fails."""
        done = subprocess.run(self.command('sh', '-c', 'exec 2>&1; cd /; ' + script), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, errors='replace', timeout=timeout_s, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f'{script!r} ended with {done.returncode}:\n{done.stdout}')
        return done

    def property(self, unit, name):
        return self.run(f'systemctl show --property={name} --value {unit}').stdout.strip()
