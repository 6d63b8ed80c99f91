"""A test case whose mapper has a keeper, and whose nodes must stay registered."""

import contextlib
import os
import shutil
import signal
import unittest

from harness.environment import EPMD, scaled
from harness.epmdctl import creations, status
from harness.mapper import Kept
from harness.process import wait_until

NODES = scaled('CUSTODY_NODES', 1000)


def orphan(mapper, name, listener):
    """Registers a node that listens there, and that loses its mapper without a keeper, which is started again; returns the
    connection."""
    connection, _ = mapper.register(name, port=listener.getsockname()[1])
    mapper.stop(signal.SIGKILL)
    mapper.start()
    wait_until(lambda: status(mapper)['orphaned'] == 1, 'it is an orphan')
    return connection


class CustodyCase(unittest.TestCase):

    def kept(self, **options):
        mapper = Kept(**options)
        self.addCleanup(mapper.close)
        return mapper.start()

    def register(self, mapper, count, prefix=b'node'):
        """{name: port} of nodes that stay registered until the test ends."""
        nodes = {}
        for number in range(count):
            name = b'%b%d' % (prefix, number)
            connection, _ = mapper.register(name, port=10000 + number % 50000)
            self.addCleanup(connection.close)
            nodes[name] = 10000 + number % 50000
        return nodes

    def check_kept(self, mapper, before):
        """All that was registered is, with the same creation, and found over the wire."""
        after = creations(mapper)
        self.assertEqual({name: after.get(name) for name in before}, before)
        names = dict(mapper.names())
        for name, (port, _) in before.items():
            self.assertEqual(names.get(name), port, name)

    def copy_of(self, directory, content=None, mode=0o755, source=None):
        path = os.path.join(directory, 'epmd-new')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if content is None:
            shutil.copy(source or EPMD, path)
        else:
            with open(path, 'w') as file:
                file.write(content)
        os.chmod(path, mode)
        return path
