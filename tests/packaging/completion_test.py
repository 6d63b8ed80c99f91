"""Completion in bash, zsh and fish, asked of the shells themselves.

    EPMD, EPMDCTL   the programs (as for the other tests); they are found by these names in PATH
"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness

COMPLETION = os.path.join(harness.ROOT, 'packaging', 'completion')

BASH = '''
source "$1/evermap.bash"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" "$1"
printf '%s\\n' "${COMPREPLY[@]}"
'''

# The real compadd works inside the line editor only; it keeps what begins with the word.
ZSH = '''
directory=$1
shift
words=("$@")
CURRENT=$#
compadd() { [[ $1 == -- ]] && shift; local item; for item in "$@"; do [[ $item == ${words[CURRENT]}* ]] && print -r -- $item; done }
_files() { print files }
_hosts() { print hosts }
source $directory/_evermap
'''

FISH = '''
source $argv[1]/evermap.fish
complete -C (string join ' ' -- (string escape -- $argv[2..])) | string replace -r '\\t.*' ''
'''


class CompletionTest(unittest.TestCase):
    shell = None

    @classmethod
    def setUpClass(cls):
        if cls is CompletionTest:
            raise unittest.SkipTest('the shells are below')
        if not shutil.which(cls.shell):
            raise unittest.SkipTest(f'no {cls.shell} here')
        cls.directory = tempfile.mkdtemp(prefix='evermap-completion-')
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        os.symlink(harness.EPMD, os.path.join(cls.directory, 'epmd'))
        os.symlink(harness.EPMDCTL, os.path.join(cls.directory, 'epmdctl'))
        os.mkdir(os.path.join(cls.directory, 'run'))

    def complete(self, *words):
        environment = harness.clean_environment(PATH=f'{self.directory}:{os.environ["PATH"]}', HOME=self.directory,
                                                RUNTIME_DIRECTORY=os.path.join(self.directory, 'run'), LC_ALL='C.UTF-8')
        done = subprocess.run([*self.command, COMPLETION, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=environment, cwd=self.directory, timeout=harness.PATIENCE_S, check=False)
        self.assertEqual(done.stderr, '', done)
        return set(done.stdout.split('\n')) - {''}

    def test_epmd(self):
        self.assertEqual(self.complete('epmd', '-nam'), {'-names', '-name_wait'})
        self.assertLessEqual({'-port', '-address', '-daemon', '-systemd', '-d', '-debug', '-names', '-kill', '-stop', '-loop',
                              '-allow', '-reserve'},
                             self.complete('epmd', '-'))
        self.assertEqual(self.complete('epmd', '-port', '4370', '-dae'), {'-daemon'})
        self.assertEqual(self.complete('epmd', '-loop', 'e'), {'epoll'})

    def test_no_option_of_epmd_is_completed_where_a_value_belongs(self):
        usage = subprocess.run([harness.EPMD, '-help'], capture_output=True, text=True, check=True).stdout
        options = re.findall(r'^  (-[a-z_]+) [A-Z]', usage, re.MULTILINE)
        self.assertIn('-orphan_grace', options)
        for option in options:
            with self.subTest(option):
                offered = self.complete('epmd', option, '')
                self.assertEqual({word for word in offered if word.startswith('-')}, set())

    def test_epmdctl(self):
        self.assertLessEqual({'list', 'lookup', 'names', 'status', 'watch', 'top', 'doctor', 'upgrade'},
                             self.complete('epmdctl', ''))
        self.assertIn('--interval', self.complete('epmdctl', 'watch', '--'))
        self.assertLessEqual({'--interval', '--once'}, self.complete('epmdctl', 'top', '--interval', '2', '--'))
        self.assertEqual(self.complete('epmdctl', 'doc'), {'doctor'})
        self.assertEqual(self.complete('epmdctl', '--port', '4370', 'loo'), {'lookup'})
        self.assertLessEqual({'--json', '--port', '--registry'}, self.complete('epmdctl', '--'))
        self.assertIn('--all', self.complete('epmdctl', 'list', '--'))

    def test_names_of_nodes(self):
        registry = os.path.join(self.directory, 'run', 'registry.4369')
        with harness.Mapper(directory=self.directory, registry=registry) as mapper:
            nodes = [mapper.register(name)[0] for name in (b'hare', b'hamster', b'rabbit')]
            for command in ('lookup', 'doctor'):
                self.assertEqual(self.complete('epmdctl', command, 'ha'), {'hare', 'hamster'})
            self.assertEqual(self.complete('epmd', '-stop', 'ha'), {'hare', 'hamster'})
            for node in nodes:
                node.close()


class BashTest(CompletionTest):
    shell = 'bash'
    command = ['bash', '--norc', '-c', BASH, 'bash']


class ZshTest(CompletionTest):
    shell = 'zsh'
    command = ['zsh', '-f', '-c', ZSH, 'zsh']


class FishTest(CompletionTest):
    shell = 'fish'
    command = ['fish', '--no-config', '-c', FISH]


if __name__ == '__main__':
    unittest.main()
