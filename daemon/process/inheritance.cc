#include "daemon/process/inheritance.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/custody/words.h"
#include "daemon/host/own_program.h"
#include "registry/base/text.h"
#include "registry/claim.h"

namespace evermap {
namespace {

// Takes a number that one of our processes has left in the environment; -1: there is none.
int TakeNumber(const char* variable) {
  const char* text = getenv(variable);
  int number = -1;
  const bool is_number = text != nullptr && absl::SimpleAtoi(text, &number);
  unsetenv(variable);
  return is_number ? number : -1;
}

// What was passed is meant for this process. A starter may leave the variables of its own to others.
bool IsForThisProcess() {
  const char* const text = getenv(variables::kListenPid);
  int pid = 0;
  return text != nullptr && absl::SimpleAtoi(text, &pid) && pid == getpid();
}

// How many descriptors were passed to this process, from kPassedFdsStart on, as sd_listen_fds(3)
// defines it; negative errno: the variable that tells is not valid.
int PassedCount() {
  if (!IsForThisProcess()) return 0;
  const char* const text = getenv(variables::kListenFds);
  if (text == nullptr) return 0;
  int count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < 0 ||
      count > std::numeric_limits<int>::max() - variables::kPassedFdsStart) {
    return -EINVAL;
  }
  return count;
}

// As PassedCount(), and makes them close-on-exec. Negative errno also when one of them is not open.
// Removes the variables in any case.
int TakePassed() {
  const int count = PassedCount();
  for (const char* variable :
       {variables::kListenPid, variables::kListenFds, variables::kListenFdNames}) {
    unsetenv(variable);
  }
  for (int fd = variables::kPassedFdsStart; fd < variables::kPassedFdsStart + count; ++fd) {
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return -errno;
  }
  return count;
}

}  // namespace

SocketKind KindOfSocket(int fd) {
  int domain = 0;
  int type = 0;
  int listens = 0;
  socklen_t size = sizeof(int);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
      (domain != AF_INET && domain != AF_INET6) || type != SOCK_STREAM) {
    return SocketKind::kOther;
  }
  return listens != 0 ? SocketKind::kListener : SocketKind::kConnection;
}

unsigned InheritedDescriptors() {
  const int count = PassedCount();
  return count > 0 ? static_cast<unsigned>(count) : 0;
}

absl::StatusOr<Inheritance> TakeInheritance() {
  Inheritance inherited;
  const int keeper = TakeNumber(variables::kKeeperLink);
  const int connections_link = TakeNumber(variables::kConnectionsLink);
  const int predecessor = TakeNumber(variables::kPredecessorLink);
  const int offers_files = TakeNumber(variables::kOffersFiles);
  const int watcher = TakeNumber(variables::kWatcherPid);
  const int mapper = TakeNumber(variables::kMapperLink);
  const int mapper_pid = TakeNumber(variables::kMapperPid);
  const int is_stray = TakeNumber(variables::kIsStray);
  const int count = TakePassed();
  if (count < 0) {
    return absl::FailedPreconditionError(absl::StrCat("the descriptors passed as ",
                                                      variables::kListenFds,
                                                      " cannot be taken: ", ErrorText(-count)));
  }
  // It counts only with what one of our processes has passed.
  if (count == 0) unsetenv(kBinaryVariable);
  if (count > 0 && mapper_pid > 0) inherited.mapper_pid = mapper_pid;
  inherited.is_stray = count > 0 && is_stray == 1;
  inherited.predecessor_offers_files = count > 0 && offers_files == 1;
  if (count > 0 && watcher > 0) inherited.watcher = watcher;
  absl::Status status;
  for (int fd = variables::kPassedFdsStart; fd < variables::kPassedFdsStart + count; ++fd) {
    OwnedFd owned(fd);
    if (fd == keeper) {
      inherited.keeper = std::move(owned);
    } else if (fd == connections_link) {
      inherited.connections_link = std::move(owned);
    } else if (fd == predecessor) {
      inherited.predecessor = std::move(owned);
    } else if (fd == mapper) {
      inherited.mapper = std::move(owned);
    } else {
      switch (KindOfSocket(fd)) {
        case SocketKind::kListener:
          inherited.listeners.push_back(std::move(owned));
          break;
        case SocketKind::kConnection:
          inherited.connections.push_back(std::move(owned));
          break;
        case SocketKind::kOther:
          if (IsFileOfClaim(fd)) {
            inherited.files.push_back(std::move(owned));
            break;
          }
          status = absl::FailedPreconditionError(absl::StrCat(
              "descriptor ", fd, " is passed and no TCP socket; see ListenStream= in epmd.socket"));
      }
    }
  }
  if (!status.ok()) return status;
  return inherited;
}

}  // namespace evermap
