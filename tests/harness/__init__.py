"""What the integration tests share: mappers, clients on a raw socket, real nodes, and their cleaning up.

    with harness.Mapper(args=['-workers', '4']) as mapper:     # a free port, a registry and a directory of its own
        node, creation = mapper.register(b'rabbit', port=5000)
        assert mapper.lookup(b'rabbit').port == 5000
        node.close()

What nearly every test needs is here by its bare name; the rest are modules that a test imports by name:

    environment      the programs under test, the scale of a run, and the environment of what is started
    process          processes: waiting for them, ending them, what they use
    sockets          TCP sockets of this host, as the kernel knows them
    wire             EPMD's bytes, and a client that speaks them
    mapper           a mapper, and one with a keeper
    epmdctl          epmdctl on a test's mapper
    custody          a test case whose mapper has a keeper and whose nodes must be kept
    erlang           nodes of erl and iex
    network          two hosts, as network namespaces; sockets of another user
    inotify          a watch of a file, as any program may have it
    libevermap       libevermap, as a program in another language uses it
    load             a load on a mapper, in a process of its own
    faults           system calls that fail (tests/preload/inject_faults.c)
    seccomp          io_uring refused, as container runtimes do
    tracer           threads of another process that stand still
    cpu_quota        a cgroup whose threads get a share of a core
    systemd_sandbox  a systemd of its own on a copy of this machine's files
    beam             nodes with the OTP application evermap
    package          a test case with the Debian packages
    podman           Debian's podman in a sandbox, and the files that it plays

No test imports another one. Everything a test starts is ended by its pid, and everything it writes is in a temporary
directory. To run a test by hand: PYTHONPATH=tests EPMD=build/daemon/epmd python3 tests/serve/limits_test.py
"""

from harness.environment import (
    EPMD, EPMDCTL, EPMD_FAULTS, INSTRUMENTED, LOOP, PATIENCE_S, ROOT, SCALE_PERCENT, STOCK_EPMD, TESTING_STOCK, as_root_only,
    clean_environment, ours_only, raise_descriptor_limit, scaled)
from harness.erlang import ErlangNode, have_elixir, have_erlang
from harness.mapper import Kept, Mapper, one_line, run_epmd
from harness.network import TwoHosts, free_port, in_network_of
from harness.process import cpu_seconds, end_process, process_exists, resident_kib, wait_until
from harness.sockets import listeners
from harness.wire import (
    BODY_SIZE_MAX, Client, HOST, NAME_CODE_POINTS_MAX, NAME_SIZE_MAX, NODE_TYPE_NORMAL, Node, PROTOCOL_TCP4, REFUSED_CREATION,
    VERSION_HIGHEST, VERSION_LOWEST, alive2_body, alive2_result, all_read, frame, receive_alive2_reply, receive_all,
    receive_exactly, reset, sees_close)
