// What a process takes of the descriptors that are passed to it, and of the variables that say what
// they are. Each case is a child of the test, where descriptors 3, 4, ... are its own.
#include "daemon/process/inheritance.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/custody/words.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

int Listener() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  return listen(fd, 1) == 0 ? fd : -1;
}
int Connection() { return socket(AF_INET6, SOCK_STREAM, 0); }
int Link() { return socket(AF_UNIX, SOCK_SEQPACKET, 0); }
int File() { return open("/dev/null", O_RDONLY); }

using Makers = std::vector<int (*)()>;
using Variables = std::vector<std::pair<const char*, std::string>>;

// Runs `check` in a child that has the descriptors which `makers` make as 3, 4, ..., and these
// variables; kListenPid is the child, unless `variables` says otherwise. True when `check` holds.
template <typename Check>
bool HoldsIn(const Makers& makers, const Variables& variables, Check check) {
  const pid_t pid = fork();
  if (pid == 0) {
    close_range(3, ~0u, 0);
    for (size_t i = 0; i < makers.size(); ++i) {
      if (makers[i]() != 3 + static_cast<int>(i)) _exit(2);
    }
    if (!makers.empty()) {
      setenv(variables::kListenPid, absl::StrCat(getpid()).c_str(), 1);
      setenv(variables::kListenFds, absl::StrCat(makers.size()).c_str(), 1);
    }
    for (const auto& [name, value] : variables) setenv(name, value.c_str(), 1);
    _exit(check() ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_NE(status, 2 << 8) << "descriptors are not what they should be";
  return status == 0;
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(InheritanceTest, NothingWasPassed) {
  EXPECT_TRUE(HoldsIn({}, {{variables::kKeeperLink, "3"}, {variables::kMapperPid, "7"}}, [] {
    const auto inherited = TakeInheritance();
    return inherited.ok() && inherited->listeners.empty() && inherited->connections.empty() &&
           !inherited->keeper.valid() && !inherited->predecessor.valid() &&
           !inherited->mapper.valid() && inherited->mapper_pid == 0 && inherited->watcher == 0;
  }));
}

TEST(InheritanceTest, TheKernelTellsListenersFromConnections) {
  EXPECT_TRUE(HoldsIn({Connection, Listener, Connection, Listener, Connection}, {}, [] {
    if (InheritedDescriptors() != 5) return false;
    const auto inherited = TakeInheritance();
    if (!inherited.ok() || inherited->listeners.size() != 2 || inherited->connections.size() != 3) {
      return false;
    }
    return inherited->listeners[0].get() == 4 && inherited->listeners[1].get() == 6 &&
           inherited->connections[0].get() == 3 && inherited->connections[2].get() == 7 &&
           fcntl(3, F_GETFD) == FD_CLOEXEC;
  }));
}

TEST(InheritanceTest, OfAMapper) {
  EXPECT_TRUE(HoldsIn({Listener, Link, Link},
                      {{variables::kPredecessorLink, "4"},
                       {variables::kKeeperLink, "5"},
                       {variables::kWatcherPid, "77"}},
                      [] {
                        const auto inherited = TakeInheritance();
                        return inherited.ok() && inherited->listeners.size() == 1 &&
                               inherited->predecessor.get() == 4 && inherited->keeper.get() == 5 &&
                               inherited->watcher == 77 && !inherited->mapper.valid();
                      }));
}

TEST(InheritanceTest, OfAKeeper) {
  EXPECT_TRUE(HoldsIn({Connection, Link},
                      {{variables::kMapperLink, "4"}, {variables::kMapperPid, "88"}}, [] {
                        const auto inherited = TakeInheritance();
                        return inherited.ok() && inherited->mapper.get() == 4 &&
                               inherited->mapper_pid == 88 && !inherited->keeper.valid();
                      }));
}

TEST(InheritanceTest, ItIsTakenOnceAndNotPassedOn) {
  EXPECT_TRUE(HoldsIn({Listener, Link},
                      {{variables::kKeeperLink, "4"}, {variables::kWatcherPid, "77"}}, [] {
                        const auto first = TakeInheritance();
                        for (const char* name :
                             {variables::kListenFds, variables::kListenPid, variables::kKeeperLink,
                              variables::kPredecessorLink, variables::kWatcherPid,
                              variables::kMapperLink, variables::kMapperPid}) {
                          if (getenv(name) != nullptr) return false;
                        }
                        const auto second = TakeInheritance();
                        return first.ok() && first->listeners.size() == 1 && second.ok() &&
                               second->listeners.empty() && !second->keeper.valid() &&
                               second->watcher == 0 && InheritedDescriptors() == 0;
                      }));
}

TEST(InheritanceTest, WhatWasPassedToAnotherProcessIsNotTaken) {
  EXPECT_TRUE(HoldsIn(
      {Listener, Link},
      {{variables::kListenPid, "1"}, {variables::kKeeperLink, "4"}, {variables::kMapperPid, "88"}},
      [] {
        const auto inherited = TakeInheritance();
        return inherited.ok() && inherited->listeners.empty() && !inherited->keeper.valid() &&
               inherited->mapper_pid == 0 && IsOpen(3) && IsOpen(4) &&
               getenv(variables::kKeeperLink) == nullptr;
      }));
}

TEST(InheritanceTest, WhatIsNoTcpSocketIsNamedAndAllIsClosed) {
  for (int (*make)() : {File, Link, +[] { return socket(AF_INET, SOCK_DGRAM, 0); }}) {
    EXPECT_TRUE(HoldsIn({Listener, make, Connection}, {}, [] {
      const auto inherited = TakeInheritance();
      return absl::IsFailedPrecondition(inherited.status()) &&
             inherited.status().message() ==
                 "descriptor 4 is passed and no TCP socket; see ListenStream= in epmd.socket" &&
             !IsOpen(3) && !IsOpen(4) && !IsOpen(5);
    }));
  }
}

TEST(InheritanceTest, NumbersThatAreNoneNameNoLink) {
  for (const char* value : {"", "x", "-1", "4x", "99999999999999999999", "7"}) {
    EXPECT_TRUE(HoldsIn({Listener, Connection},
                        {{variables::kKeeperLink, value}, {variables::kWatcherPid, "-5"}},
                        [] {
                          const auto inherited = TakeInheritance();
                          return inherited.ok() && !inherited->keeper.valid() &&
                                 inherited->connections.size() == 1 && inherited->watcher == 0;
                        }))
        << value;
  }
}

TEST(InheritanceTest, ACountThatIsNoneIsAnError) {
  for (const char* count : {"x", "-1", "2000000000000"}) {
    EXPECT_TRUE(HoldsIn({Listener}, {{variables::kListenFds, count}}, [] {
      const auto inherited = TakeInheritance();
      return absl::IsFailedPrecondition(inherited.status()) && InheritedDescriptors() == 0;
    })) << count;
  }
}

}  // namespace
}  // namespace evermap
