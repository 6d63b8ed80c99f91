#include "tools/epmdctl/doctor/host_checks.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/wire/tcp.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// The addresses of a host as text, each once.
std::vector<std::string> TextsOf(const Addresses& addresses) {
  std::vector<std::string> texts;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    char text[NI_MAXHOST] = "";
    getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST);
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  return texts;
}

// Whether one of the addresses is this host's: only then a socket can be bound to it.
bool IsThisHost(const Addresses& addresses) {
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    const OwnedFd fd(socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address = {};
    std::memcpy(&address, a->ai_addr, a->ai_addrlen);
    // The port is at the same place in both families.
    reinterpret_cast<sockaddr_in&>(address).sin_port = 0;
    if (fd.valid() && bind(fd.get(), reinterpret_cast<sockaddr*>(&address), a->ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

HostKind ExamineHost(const std::string& host, uint16_t port, Report& report) {
  const absl::StatusOr<Addresses> addresses = Resolve(host, port);
  if (!addresses.ok()) {
    report.Say(
        "host", Verdict::kFailed,
        absl::StrFormat("%s has no address that this host can look up", Printable(host)),
        "put it into /etc/hosts or the DNS, or give the host part as the node was started with");
    return HostKind::kUnknown;
  }
  const bool is_this_host = IsThisHost(*addresses);
  report.Say("host", Verdict::kOk,
             absl::StrFormat("%s is %s%s", Printable(host), Listed(TextsOf(*addresses)),
                             is_this_host ? ", this host" : ""));
  return is_this_host ? HostKind::kThis : HostKind::kOther;
}

void ExamineAddresses(const char* check, const std::vector<ListeningSocket>& sockets,
                      const std::string& who, const std::string& if_loopback, Report& report) {
  if (sockets.empty()) return;
  std::vector<std::string> addresses;
  bool is_loopback_only = true;
  for (const ListeningSocket& socket : sockets) {
    addresses.push_back(socket.address);
    is_loopback_only = is_loopback_only && socket.IsLoopback();
  }
  const std::string text = absl::StrFormat("%s listens on %s", who, Listed(addresses));
  if (is_loopback_only) {
    report.Say(check, Verdict::kWarning, text + ": other hosts cannot reach it", if_loopback);
  } else {
    report.Say(check, Verdict::kOk, text);
  }
}

std::string ConnectProblem(const absl::Status& status) {
  if (absl::IsDeadlineExceeded(status)) {
    return absl::StrFormat("does not answer within %s, not even by refusing",
                           absl::FormatDuration(kProbeTimeout));
  }
  switch (ErrnoOf(status)) {
    case 0:
      return std::string(status.message());
    case ECONNREFUSED:
      return "refuses connections: nobody listens there";
    default:
      return absl::StrCat("cannot be reached: ", ErrorText(ErrnoOf(status)));
  }
}

std::string ConnectAdvice(const absl::Status& status, const std::string& if_refused) {
  if (absl::IsDeadlineExceeded(status)) {
    return "a firewall that drops packets looks like this: open the port there, or find out "
           "whether the process is stopped";
  }
  switch (ErrnoOf(status)) {
    case 0:
      return "";
    case ECONNREFUSED:
      return if_refused;
    default:
      return "check the route to that host, and firewalls that reject";
  }
}

}  // namespace evermap
