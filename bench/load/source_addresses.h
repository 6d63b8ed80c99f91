// The source addresses from which the bench connects.
//
//   SourceAddresses sources(endpoint, {.count = 1});
//   OwnedFd fd(socket(endpoint.family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
//   int error = sources.StartConnecting(fd.get());
//
// A client address has some 28,000 ports, and each is held for a while after its connection. On
// loopback the whole of 127.0.0.0/8 belongs to this host, so that a load takes another address when
// the ports of one run out, or several in turn from the start. Not thread-safe: one per thread.
#ifndef EVERMAP_BENCH_LOAD_SOURCE_ADDRESSES_H_
#define EVERMAP_BENCH_LOAD_SOURCE_ADDRESSES_H_

#include <cassert>
#include <cstdint>

#include "bench/load/endpoint.h"

namespace evermap::bench {

class SourceAddresses {
 public:
  // Addresses 127.0.0.1 to 127.0.0.254; with another base 127.x.y.1 to 127.x.y.254.
  static constexpr uint32_t kCountMax = 254;
  static constexpr uint32_t kDefaultBase = 0x7f000000;
  struct Options {
    // Number of addresses that are taken in turn. With 1 the kernel chooses, until it runs out of
    // ports.
    uint32_t count = 1;
    uint32_t base = kDefaultBase;
  };

  // REQUIRES: 1 <= options.count <= kCountMax; `endpoint` outlives it.
  SourceAddresses(const Endpoint& endpoint, const Options& options)
      : endpoint_(endpoint), options_(options) {
    assert(options.count >= 1 && options.count <= kCountMax);
  }

  // connect(2) of a fresh non-blocking socket. Returns 0 when the connection is there or on its
  // way, else an errno. An endpoint outside 127.0.0.0/8 is connected to from where the kernel
  // chooses.
  int StartConnecting(int fd);

 private:
  int ConnectOnce(int fd);

  const Endpoint& endpoint_;
  const Options options_;
  uint32_t turn_ = 0;
  uint32_t shift_ = 0;  // grows each time that the ports of an address run out
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_SOURCE_ADDRESSES_H_
