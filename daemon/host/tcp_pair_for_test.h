// Two ends of a TCP connection over loopback, for tests.
#ifndef EVERMAP_DAEMON_HOST_TCP_PAIR_FOR_TEST_H_
#define EVERMAP_DAEMON_HOST_TCP_PAIR_FOR_TEST_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cassert>
#include <cstdint>

#include "registry/base/owned_fd.h"

namespace evermap {

// A socket that listens on a port of the kernel's choice.
struct LoopbackListener {
  LoopbackListener() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    [[maybe_unused]] int failed =
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any));
    assert(failed == 0);
    failed = listen(fd.get(), 16);
    assert(failed == 0);
    socklen_t size = sizeof(address);
    failed = getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    assert(failed == 0);
  }

  OwnedFd fd;
  sockaddr_in address = {};
};

struct TcpPair {
  TcpPair() : client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const LoopbackListener listener;
    [[maybe_unused]] const int failed =
        connect(client.get(), reinterpret_cast<const sockaddr*>(&listener.address),
                sizeof(listener.address));
    assert(failed == 0);
    server = OwnedFd(accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    assert(server.valid());
  }

  OwnedFd client;
  OwnedFd server;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_TCP_PAIR_FOR_TEST_H_
