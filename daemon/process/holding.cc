#include "daemon/process/holding.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstddef>
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

std::vector<int> InOrder(std::vector<int> fds, const std::vector<int>& more) {
  fds.insert(fds.end(), more.begin(), more.end());
  std::sort(fds.begin(), fds.end());
  return fds;
}

}  // namespace

Holding::~Holding() {
  for (const int fd : sockets_) close(fd);
}

void Holding::Hold(OwnedFd fd, int epoll_fd) {
  epoll_event event = {};
  // No events are asked for: hanging up is reported all the same, and nothing else matters.
  event.data.fd = fd.get();
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd.get(), &event) != 0) {
    Log(Severity::kWarning, "the keeper cannot watch a connection: %s; it is not held",
        ErrorText(errno));
    return;
  }
  if (KindOfSocket(fd.get()) == SocketKind::kListener) listeners_.insert(fd.get());
  sockets_.insert(fd.Release());
}

void Holding::LetGo(int fd, int epoll_fd) {
  assert(Holds(fd));
  epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, nullptr);
  sockets_.erase(fd);
  listeners_.erase(fd);
  close(fd);
}

void Holding::HoldFile(OwnedFd fd) {
  const std::string name = StoredName(fd.get());
  for (const OwnedFd& file : files_) {
    if (StoredName(file.get()) == name) return;
  }
  if (files_.size() == kFilesMax) {
    Log(Severity::kWarning, "the keeper holds %d files already; one more is not held", kFilesMax);
    return;
  }
  files_.push_back(std::move(fd));
}

void Holding::LetGoOfFile(std::string_view name) {
  std::erase_if(files_, [name](const OwnedFd& file) { return StoredName(file.get()) == name; });
}

std::vector<int> Holding::Connections() const {
  std::vector<int> connections;
  for (const int fd : sockets_) {
    if (!listeners_.contains(fd)) connections.push_back(fd);
  }
  return connections;
}

std::vector<int> Holding::Files() const {
  std::vector<int> files;
  for (const OwnedFd& file : files_) files.push_back(file.get());
  return files;
}

std::vector<int> Holding::All() const { return InOrder(Sockets(), Files()); }

std::vector<int> Holding::AllButConnections() const {
  return InOrder({listeners_.begin(), listeners_.end()}, Files());
}

}  // namespace evermap
