// The sockets of this network namespace as /proc/net/tcp and /proc/net/tcp6 list them: what is left
// where sock_diag (sock_diag.h) is forbidden or missing. They have users, but no cookies.
//
// Sockets that listen stand at the beginning of a file. Whoever wants others reads all, also those
// that wait a minute after their connection has ended (TIME_WAIT). It takes 10 to 50 ms (measured),
// since the kernel walks along the tables of all network namespaces: it is for questions that are
// rare, and kProcSocketBytesMax bounds it.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_HOST_PROC_SOCKETS_H_
#define EVERMAP_DAEMON_HOST_PROC_SOCKETS_H_

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/functional/function_ref.h"

namespace evermap {

// How much of both files together is read: about 7,000 sockets. A worker does it, and lookups wait
// for that worker meanwhile.
inline constexpr size_t kProcSocketBytesMax = size_t{1} << 20;

// One end of a connection as sock_diag and /proc know it: an address of IPv4 in its own form.
struct Endpoint {
  sa_family_t family = AF_UNSPEC;
  uint16_t port = 0;                     // network byte order
  std::array<uint32_t, 4> address = {};  // likewise
  uint32_t scope_id = 0;                 // 0 where it is not told, as in /proc

  // Whether both are the same, but for their scope.
  bool IsSame(const Endpoint& other) const {
    return family == other.family && port == other.port && address == other.address;
  }
};
Endpoint EndpointOf(const sockaddr_storage& address);

struct ProcSocket {
  Endpoint here;
  Endpoint there;
  int state = 0;  // TCP_LISTEN, TCP_ESTABLISHED, ... of <netinet/tcp.h>
  uint32_t uid = 0;
  uint64_t inode = 0;  // 0: its process has closed it
};

// The socket of one line of /proc/net/tcp (AF_INET) or /proc/net/tcp6 (AF_INET6); nothing of the
// head line and of anything else.
std::optional<ProcSocket> ParseProcSocket(std::string_view line, sa_family_t family);

// Which sockets are visited.
enum class ProcSockets { kListening, kAll };
// Calls `visit` for each such socket until that returns false. Returns 0, or an errno: the files cannot
// be read, or are longer than kProcSocketBytesMax (EFBIG), so that not all was seen. A host without
// IPv6 has none of its sockets.
int ReadProcSockets(ProcSockets which, absl::FunctionRef<bool(const ProcSocket&)> visit);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_PROC_SOCKETS_H_
