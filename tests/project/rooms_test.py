"""tools/project/rooms finds what it is there for: each kind of fault is planted in a copy of the sources."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
ROOMS = os.path.join(ROOT, 'tools', 'project', 'rooms')
FOLDERS = ('bench', 'daemon', 'registry', 'tests/fuzz', 'tools')


@unittest.skipUnless(shutil.which('ctags'), 'no ctags here: tools/setup installs it')
class RoomsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix='evermap-rooms-')
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        for folder in FOLDERS:
            shutil.copytree(os.path.join(ROOT, folder), os.path.join(cls.directory, folder),
                            ignore=lambda _, names: [name for name in names if '.' in name and
                                                     not name.endswith(('.h', '.cc', '.c'))])
        # That the tree itself has no faults is for lint to say.
        cls.before = cls.faults()

    @classmethod
    def faults(cls):
        done = subprocess.run([sys.executable, '-B', ROOMS, cls.directory], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        *lines, summary = done.stdout.splitlines()
        passed, failed = map(int, re.fullmatch(r'(\d+) passed, (\d+) failed', summary).groups())
        if passed + failed != 7 or done.returncode != (1 if failed else 0):
            raise AssertionError(done)
        return [line for line in lines if not line.startswith('rooms: ')]

    def planted(self, path, text):
        """The faults that a file with this text adds; a text that is a function makes one of the text that is there."""
        whole = os.path.join(self.directory, path)
        original = None
        if os.path.exists(whole):
            with open(whole) as file:
                original = file.read()
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, 'w') as file:
            file.write(text(original) if callable(text) else text)
        try:
            # The lines of others may have moved.
            known = {re.sub(r':\d+:', ':', line) for line in self.before}
            return [line for line in self.faults() if re.sub(r':\d+:', ':', line) not in known]
        finally:
            if original is None:
                os.unlink(whole)
            else:
                with open(whole, 'w') as file:
                    file.write(original)

    def test_upward_include(self):
        for path, upward in (('daemon/wire/protocol.cc', 'daemon/serve/connections.h'),
                             ('registry/chain.cc', 'daemon/host/log.h'),
                             ('registry/base/text.cc', 'registry/registration.h'),
                             ('daemon/serve/list_text.cc', 'daemon/mapper/mapper.h'),
                             ('daemon/names/orphans.cc', 'registry/segment.h'),
                             ('tools/epmdctl/names_command.cc', 'registry/layout.h'),
                             ('tools/epmdctl/view/output.cc', 'daemon/custody/custody.h')):
            with self.subTest(path=path):
                found = self.planted(path, lambda text, upward=upward: f'#include "{upward}"\n' + text)
                self.assertEqual(found, [f'{path}:1: {os.path.dirname(path)}/ may not include {upward}'])

    def test_the_keeper_knows_nothing_of_nodes(self):
        found = self.planted('daemon/process/keeper_more.cc', '#include "daemon/custody/custody.h"\n')
        self.assertEqual(found, ['daemon/process/keeper_more.cc:1: daemon/process/ may not include daemon/custody/custody.h'])

    def test_unwanted_words(self):
        for path, line, word in (('daemon/host/cores.cc', 'std::ifstream file("/proc/self/comm");', 'std::ifstream'),
                                 ('daemon/wire/tcp.cc', 'const absl::Time now = absl::Now();', 'absl::Now()')):
            found = self.planted(path, lambda text, line=line: f'{text}{line}\n')
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(f'{path}: {word}: '), found)

    def test_abseil_in_the_c_library(self):
        found = self.planted('registry/chain.cc', lambda text: '#include "absl/status/status.h"\n' + text)
        self.assertEqual(found, ['registry/chain.cc:1: is part of the C library, and may not include absl/status/status.h'])

    def test_downward_include(self):
        self.assertEqual(self.planted('daemon/serve/more.cc', '#include "daemon/wire/protocol.h"\n'), [])

    def test_unknown_room(self):
        found = self.planted('daemon/attic/box.cc', 'int box;\n')
        self.assertEqual(found, ['daemon/attic/: no room of the table in tools/project/rooms'])
        os.rmdir(os.path.join(self.directory, 'daemon', 'attic'))

    def test_header_that_nobody_includes(self):
        self.assertEqual(self.planted('registry/alone.h', '#define ALONE\n'), ['registry/alone.h: nobody includes it'])

    def test_long_file(self):
        self.assertEqual(self.planted('daemon/names/long.cc', '\n' * 500), [])
        self.assertEqual(self.planted('daemon/names/long.cc', '\n' * 501), ['daemon/names/long.cc: 501 lines, 500 at most'])

    def test_long_function(self):
        function = 'namespace evermap {{\nint Box::Long() const {{\n{}  return 1;\n}}\n}}  // namespace evermap\n'
        self.assertEqual(self.planted('daemon/names/long.cc', function.format('  Act();\n' * 67)), [])
        self.assertEqual(self.planted('daemon/names/long.cc', function.format('  Act();\n' * 68)),
                         ['daemon/names/long.cc:2: Long: 71 lines, 70 at most'])

    def test_large_class(self):
        def large(count):
            methods = ''.join(f'  void Act{number}(int (&values)[2]);\n' if number % 2 else f'  int Say{number}() {{ return 1; }}\n'
                              for number in range(count))
            return ('namespace evermap {\nclass Large {\n public:\n  Large(const Large&) = delete;\n' + methods +
                    ' private:\n  int value_ ABSL_GUARDED_BY(mutex_) = 0;\n};\nvoid Large::Act1(int (&values)[2]) {}\n'
                    '}  // namespace evermap\n')
        self.assertEqual(self.planted('daemon/names/large.cc', large(25)), [])
        self.assertEqual(self.planted('daemon/names/large.cc', large(26)),
                         ['daemon/names/large.cc:2: Large has 26 methods, 25 at most'])


if __name__ == '__main__':
    unittest.main()
