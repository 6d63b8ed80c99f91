"""Nodes of erl and iex, asked to evaluate expressions."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
import unittest

from harness.environment import PATIENCE_S, clean_environment

# Reads one line of Erlang expressions at a time, evaluates them and prints the value on a line of its own. Where Elixir was started
# lines are binaries.
_ERL_SERVER = '''
F = fun Loop() ->
  case io:get_line("") of
    eof -> halt(0);
    Line ->
      {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Line)),
      {ok, Expressions} = erl_parse:parse_exprs(Tokens),
      Value = try {value, V, _} = erl_eval:exprs(Expressions, []), V catch C:R -> {C, R} end,
      io:format("~n=> ~0p~n", [Value]),
      Loop()
  end
end,
F().
'''


class ErlangNode:
    """`erl -sname NAME` or `iex --sname NAME`, with its own HOME and a cookie shared by the test's nodes.

    Unless `epmd_command` is given the node starts no mapper by itself: it finds the one on epmd_port or none.
    """

    COOKIE = 'evermaptest'

    def __init__(self, name, epmd_port, directory, shell='erl', epmd_command=None, env=None):
        self.name = name
        self._output = b''
        home = os.path.join(directory, 'home-' + name.split('@')[0])
        os.makedirs(home, exist_ok=True)
        self._log = open(os.path.join(home, 'stderr'), 'ab')
        environment = clean_environment(HOME=home, XDG_CONFIG_HOME=home, TERM='dumb', LC_ALL='C.UTF-8', **(env or {}))
        if epmd_port is not None:
            environment['ERL_EPMD_PORT'] = str(epmd_port)
        start = ['-epmd', epmd_command] if epmd_command else ['-start_epmd', 'false']
        if shell == 'erl':
            command = ['erl', '-noshell', '-sname', name, '-setcookie', self.COOKIE, *start, '-eval', _ERL_SERVER]
        else:
            command = ['iex', '--sname', name, '--cookie', self.COOKIE, '--dot-iex', '', '--erl', ' '.join(start)]
        self._shell = shell
        self._count = 0
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                                         env=environment, cwd=home, start_new_session=True)

    @property
    def pid(self):
        return self._process.pid

    def evaluate(self, expression, timeout_s=PATIENCE_S):
        """Sends one expression, in the shell's own language and on one line, and returns the value as text."""
        self._count += 1
        if self._shell == 'erl':
            line, marker = expression + '.\n', b'\n=> '
        else:
            tag = f'=>{self._count} '
            # The tag is put together at run time: the shell may echo its input.
            line = f'IO.puts("\\n=" <> ">{self._count} " <> inspect({expression}, limit: :infinity))\n'
            marker = b'\n' + tag.encode()
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            start = self._output.find(marker)
            end = self._output.find(b'\n', start + len(marker)) if start >= 0 else -1
            if end >= 0:
                value = self._output[start + len(marker):end].decode()
                self._output = self._output[end:]
                return value
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b''
            if not chunk:
                raise AssertionError(f'node {self.name} did not answer {expression!r}; it said {self._output!r} and '
                                     f'{self.stderr()!r}')
            self._output += chunk

    def stderr(self):
        with open(self._log.name, 'rb') as log:
            return log.read().decode('utf-8', 'replace')

    def halt(self):
        """Lets the node end by itself."""
        self._process.stdin.write(b'halt().\n' if self._shell == 'erl' else b'System.halt(0)\n')
        self._process.stdin.flush()
        self._process.wait(PATIENCE_S)

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def close(self):
        if self._process.poll() is None:
            # iex is a script around erl; both are in a session that this process started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


have_erlang = unittest.skipUnless(shutil.which('erl'), 'no erl here')
have_elixir = unittest.skipUnless(shutil.which('iex'), 'no iex here')
