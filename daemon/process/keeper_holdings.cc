#include "daemon/process/keeper_holdings.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "daemon/host/log.h"
#include "daemon/process/inheritance.h"
#include "registry/base/file_identity.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Lock and registry, twice while one pair takes the other's place, and as many again for a mapper that
// dies in the middle of that.
constexpr size_t kFilesMax = 8;
// Connections have these numbers, and what a mapper is started with lower ones, so that the
// descriptor table which it begins with is short (launch.h).
constexpr int kConnectionsFrom = 128;

OwnedFd AtItsPlace(OwnedFd fd, bool is_connection) {
  if ((fd.get() >= kConnectionsFrom) == is_connection) return fd;
  OwnedFd moved(fcntl(fd.get(), F_DUPFD_CLOEXEC, is_connection ? kConnectionsFrom : 0));
  // Where it cannot be moved, starting a mapper takes longer.
  return moved.valid() ? std::move(moved) : std::move(fd);
}

std::vector<int> Numbers(const std::vector<OwnedFd>& fds) {
  std::vector<int> numbers;
  for (const OwnedFd& fd : fds) numbers.push_back(fd.get());
  return numbers;
}

std::vector<int> InOrder(std::vector<int> fds, const std::vector<int>& more) {
  fds.insert(fds.end(), more.begin(), more.end());
  std::sort(fds.begin(), fds.end());
  return fds;
}

}  // namespace

KeeperHoldings::~KeeperHoldings() {
  for (const int socket : sockets_) close(socket);
}

void KeeperHoldings::Hold(OwnedFd passed) {
  const bool listens = KindOfSocket(passed.get()) == SocketKind::kListener;
  OwnedFd fd = AtItsPlace(std::move(passed), !listens);
  epoll_event event = {};
  event.data.fd = fd.get();
  // No events are asked for: hanging up is reported all the same, and nothing else matters.
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd.get(), &event) != 0) {
    Log(Severity::kWarning, "the keeper cannot watch a connection: %s; it is not held",
        ErrorText(errno));
    return;
  }
  if (listens) listeners_.insert(fd.get());
  sockets_.insert(fd.Release());
}

void KeeperHoldings::LetGo(int socket) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, socket, nullptr);
  sockets_.erase(socket);
  listeners_.erase(socket);
  close(socket);
}

void KeeperHoldings::HoldFile(OwnedFd passed) {
  const std::string name = StoredName(passed.get());
  for (const OwnedFd& file : files_) {
    if (StoredName(file.get()) == name) return;
  }
  if (files_.size() == kFilesMax) {
    Log(Severity::kWarning, "the keeper holds %d files already; one more is not held", kFilesMax);
    return;
  }
  files_.push_back(AtItsPlace(std::move(passed), /*is_connection=*/false));
}

void KeeperHoldings::HoldAll(std::vector<OwnedFd> passed, bool are_sockets) {
  for (OwnedFd& fd : passed) {
    if (are_sockets) {
      Hold(std::move(fd));
    } else {
      HoldFile(std::move(fd));
    }
  }
}

void KeeperHoldings::LetGoOfFile(std::string_view name) {
  std::erase_if(files_, [name](const OwnedFd& file) { return StoredName(file.get()) == name; });
}

std::vector<int> KeeperHoldings::Files() const { return Numbers(files_); }

std::vector<int> KeeperHoldings::ReadySets() const { return Numbers(ready_sets_); }

std::vector<int> KeeperHoldings::All() const { return InOrder(Sockets(), Files()); }

std::vector<int> KeeperHoldings::AllButConnections() const {
  return InOrder({listeners_.begin(), listeners_.end()}, Files());
}

std::vector<int> KeeperHoldings::Connections() const {
  std::vector<int> connections;
  connections.reserve(sockets_.size());
  for (const int socket : sockets_) {
    if (!listeners_.contains(socket)) connections.push_back(socket);
  }
  return connections;
}

}  // namespace evermap
