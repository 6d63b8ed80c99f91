#!/usr/bin/env python3
"""Adds up what `meson test` has logged, for tools/test, and shows the logs of what failed.

usage: tools/project/count_tests.py PART LOG
  PART  the name that failures are shown under
  LOG   meson-logs/testlog.json of the build directory, or with the name of a wrapper in its own

Prints `PASSED SKIPPED [NAME ...]` with the names of what failed, spaces in them as _; the logs go to standard error.
"""

import json
import sys

LOG_LINES_MAX = 200


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith('-'):
        print(__doc__)
        return 2
    part, log = sys.argv[1:]
    passed, skipped, failed = 0, 0, []
    with open(log) as lines:
        for line in lines:
            test = json.loads(line)
            if test['result'] in ('OK', 'EXPECTEDFAIL'):
                passed += 1
            elif test['result'] == 'SKIP':
                skipped += 1
            else:
                failed.append(test)
    for test in failed:
        print(f'\n==== {part}: {test["name"]}: {test["result"]} after {test["duration"]:.1f} s', file=sys.stderr)
        for stream in ('stdout', 'stderr'):
            text = (test.get(stream) or '').splitlines()
            if text:
                print(f'---- {stream}, last {min(len(text), LOG_LINES_MAX)} of {len(text)} lines', file=sys.stderr)
                print('\n'.join(text[-LOG_LINES_MAX:]), file=sys.stderr)
    print(passed, skipped, *(test['name'].replace(' ', '_') for test in failed))
    return 0


if __name__ == '__main__':
    sys.exit(main())
