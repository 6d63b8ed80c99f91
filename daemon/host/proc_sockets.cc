#include "daemon/host/proc_sockets.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>

#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// Longer than any line, which has 150 bytes, or 180 with addresses of IPv6.
constexpr size_t kChunkSize = 65536;

// Takes the next word of a line.
std::string_view TakeWord(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(word.size());
  return word;
}

template <typename Number>
bool Parse(std::string_view text, int base, Number& number) {
  const char* const end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, number, base);
  return result.ec == std::errc() && result.ptr == end;
}

// "0100007F:1F90": each word of the address as a number of this machine, and the port as a number.
bool ParseEndpoint(std::string_view text, sa_family_t family, Endpoint& end) {
  constexpr size_t kWordDigits = 8;
  const size_t words = family == AF_INET ? 1 : 4;
  if (text.size() <= words * kWordDigits || text[words * kWordDigits] != ':') return false;
  end.family = family;
  for (size_t i = 0; i < words; ++i) {
    if (!Parse(text.substr(i * kWordDigits, kWordDigits), 16, end.address[i])) return false;
  }
  uint16_t port = 0;
  if (!Parse(text.substr(words * kWordDigits + 1), 16, port)) return false;
  end.port = htons(port);
  const bool is_mapped = family == AF_INET6 && end.address[0] == 0 && end.address[1] == 0 &&
                         end.address[2] == htonl(0xffff);
  if (is_mapped) {
    end.family = AF_INET;
    end.address = {end.address[3], 0, 0, 0};
  }
  return true;
}

// What is read of the files.
class Reading {
 public:
  Reading(ProcSockets which, absl::FunctionRef<bool(const ProcSocket&)> visit)
      : which_(which), visit_(visit) {}

  // Returns an errno.
  int Read(const char* path, sa_family_t family) {
    const OwnedFd file(open(path, O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return errno;
    bool is_empty = true;
    is_file_over_ = false;
    std::string rest;  // the beginning of a line whose end was not read yet
    std::string chunk(kChunkSize, '\0');
    while (!is_file_over_ && !is_over_) {
      const ssize_t got = read(file.get(), chunk.data(), chunk.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      // Each of the files has a head line. An empty one hides them, as a sandbox does.
      if (got == 0) return is_empty ? ENODATA : 0;
      is_empty = false;
      if (static_cast<size_t>(got) > bytes_left_) return EFBIG;
      bytes_left_ -= static_cast<size_t>(got);
      rest.append(chunk.data(), static_cast<size_t>(got));
      rest.erase(0, VisitLines(rest, family));
    }
    return 0;
  }
  bool is_over() const { return is_over_; }

 private:
  // Returns the size of the whole lines.
  size_t VisitLines(std::string_view text, sa_family_t family) {
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1) {
      const auto socket = ParseProcSocket(text.substr(begin, end - begin), family);
      if (!socket.has_value()) continue;
      is_file_over_ = which_ == ProcSockets::kListening && socket->state != TCP_LISTEN;
      is_over_ = !is_file_over_ && !visit_(*socket);
      if (is_file_over_ || is_over_) break;
    }
    return begin;
  }

  const ProcSockets which_;
  const absl::FunctionRef<bool(const ProcSocket&)> visit_;
  size_t bytes_left_ = kProcSocketBytesMax;
  bool is_file_over_ = false;
  bool is_over_ = false;
};

}  // namespace

Endpoint EndpointOf(const sockaddr_storage& address) {
  Endpoint end;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    end.family = AF_INET;
    end.port = v4.sin_port;
    end.address[0] = v4.sin_addr.s_addr;
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    end.port = v6.sin6_port;
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      end.family = AF_INET;
      std::memcpy(end.address.data(), v6.sin6_addr.s6_addr + 12, sizeof(in_addr));
    } else {
      end.family = AF_INET6;
      end.scope_id = v6.sin6_scope_id;
      std::memcpy(end.address.data(), &v6.sin6_addr, sizeof(in6_addr));
    }
  }
  return end;
}

std::optional<ProcSocket> ParseProcSocket(std::string_view line, sa_family_t family) {
  //  sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid  timeout inode
  ProcSocket socket;
  TakeWord(line);
  if (!ParseEndpoint(TakeWord(line), family, socket.here) ||
      !ParseEndpoint(TakeWord(line), family, socket.there) ||
      !Parse(TakeWord(line), 16, socket.state)) {
    return std::nullopt;
  }
  for (int i = 0; i < 3; ++i) TakeWord(line);
  if (!Parse(TakeWord(line), 10, socket.uid)) return std::nullopt;
  TakeWord(line);
  if (!Parse(TakeWord(line), 10, socket.inode)) return std::nullopt;
  return socket;
}

int ReadProcSockets(ProcSockets which, absl::FunctionRef<bool(const ProcSocket&)> visit) {
  Reading reading(which, visit);
  if (const int error = reading.Read("/proc/net/tcp", AF_INET); error != 0) return error;
  if (reading.is_over()) return 0;
  const int error = reading.Read("/proc/net/tcp6", AF_INET6);
  return error == ENOENT ? 0 : error;
}

}  // namespace evermap
