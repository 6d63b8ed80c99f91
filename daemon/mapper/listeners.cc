#include "daemon/mapper/listeners.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/host/address.h"
#include "daemon/host/steady_time.h"
#include "daemon/loop/loop.h"
#include "daemon/wire/client.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// The kernel takes net.core.somaxconn when that is less.
constexpr int kBacklog = 65535;
// A port whose holder does not answer is tried again for so long: the kernel closes the sockets of a
// process that had an io_uring some time after its death, on busy cores some tenths of a second.
constexpr absl::Duration kDyingMax = absl::Seconds(3);
constexpr absl::Duration kBindPause = absl::Milliseconds(20);
constexpr absl::Duration kProbeTimeout = absl::Seconds(1);

// False when `text` is no IP address.
bool ToAddress(const std::string& text, uint16_t port, sockaddr_storage& address, socklen_t& size) {
  std::memset(&address, 0, sizeof(address));
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    size = sizeof(v4);
    return true;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  std::memset(&address, 0, sizeof(address));
  if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    size = sizeof(v6);
    return true;
  }
  return false;
}

// A socket that listens on the address, in `fd`. Returns 0 or an errno.
int Bind(const sockaddr_storage& address, socklen_t size, OwnedFd& fd) {
  fd = OwnedFd(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.valid()) return errno;
  const int on = 1;
  // Without SO_REUSEADDR a restart would have to wait for connections in TIME_WAIT.
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) return errno;
  if (address.ss_family == AF_INET6 &&
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) {
    return errno;
  }
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return errno;
  return listen(fd.get(), kBacklog) == 0 ? 0 : errno;
}

// Whether a mapper serves the port. Where it is one that has died, and that had an io_uring, its
// connections are reset, or end without a reply, or nobody accepts them.
bool IsServed(const sockaddr_storage& address, uint16_t port) {
  const bool is_v4 = address.ss_family == AF_INET;
  std::string host = AddressText(address);
  if (host == "0.0.0.0" || host == "::") host = is_v4 ? "127.0.0.1" : "::1";
  return Client(host, port, {.timeout = kProbeTimeout}).Answers().ok();
}

// Bind(), tried again while the holder of the port may be dying.
int BindWhenFree(const sockaddr_storage& address, socklen_t size, uint16_t port, OwnedFd& fd) {
  const absl::Time end = SteadyNow() + kDyingMax;
  int error = Bind(address, size, fd);
  while (error == EADDRINUSE && SteadyNow() < end && !IsServed(address, port)) {
    absl::SleepFor(kBindPause);
    error = Bind(address, size, fd);
  }
  return error;
}

// Whether the host lacks the protocol family, IPv6 as a rule, or the address.
bool IsMissingFamily(int error) {
  return error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EPROTONOSUPPORT ||
         error == EPFNOSUPPORT;
}

}  // namespace

absl::StatusOr<std::vector<OwnedFd>> BindListeners(const Options& options) {
  static_assert(kAddressesMax <= kListenersMax);
  const std::vector<std::string> everywhere = {"0.0.0.0", "::"};
  const std::vector<std::string>& wanted =
      options.addresses.empty() ? everywhere : options.addresses;
  std::vector<OwnedFd> listeners;
  int last_error = EAFNOSUPPORT;
  for (const std::string& text : wanted) {
    sockaddr_storage address;
    socklen_t size = 0;
    if (!ToAddress(text, options.port, address, size)) {
      return absl::FailedPreconditionError(absl::StrCat(text, " is not an IP address"));
    }
    OwnedFd fd;
    const int error = BindWhenFree(address, size, options.port, fd);
    if (error == 0) {
      listeners.push_back(std::move(fd));
      continue;
    }
    last_error = error;
    if (error == EADDRINUSE) {
      return absl::AlreadyExistsError(
          absl::StrCat("there is already a port mapper on ", text, " port ", options.port));
    }
    // A host may lack a family when all addresses are asked for, and of loopback always. An address
    // that the user asked for must be there.
    if (IsMissingFamily(error) && (options.addresses.empty() || IsLoopback(address))) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen on ", text, " port ", options.port, ": ", ErrorText(error),
                     error == EADDRNOTAVAIL ? "; choose an address of this host with -address"
                     : error == EACCES      ? "; choose a port that you may use with -port"
                                            : ""));
  }
  if (listeners.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("cannot listen on port ", options.port,
                                                      " of any address: ", ErrorText(last_error)));
  }
  return listeners;
}

}  // namespace evermap
