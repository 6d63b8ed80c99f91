// Which role a process has, for each way in which it can be started.
#include "daemon/role.h"

#include <fcntl.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace evermap {
namespace {

OwnedFd Link() {
  OwnedFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd.valid());
  return fd;
}

// All combinations of the three booleans that count for a server.
struct Start {
  bool daemon;
  bool no_keeper;
  Surroundings surroundings;
};
std::vector<Start> AllStarts() {
  std::vector<Start> starts;
  for (int bits = 0; bits < 16; ++bits) {
    starts.push_back(
        {.daemon = (bits & 1) != 0,
         .no_keeper = (bits & 2) != 0,
         .surroundings = {.has_notify_socket = (bits & 4) != 0, .is_detached = (bits & 8) != 0}});
  }
  return starts;
}

Options Server(bool daemon, bool no_keeper) {
  Options options;
  options.daemon = daemon;
  options.no_keeper = no_keeper;
  return options;
}

Role RoleOfServer(const Start& start, const Inheritance& inherited) {
  return RoleOf(Server(start.daemon, start.no_keeper), inherited, start.surroundings);
}

TEST(RoleTest, ACommandIsOneWhateverItInherits) {
  for (const Command command : {Command::kNames, Command::kStarted, Command::kDump, Command::kKill,
                                Command::kStop, Command::kHelp, Command::kVersion}) {
    Options options;
    options.command = command;
    options.daemon = true;
    Inheritance inherited;
    EXPECT_EQ(RoleOf(options, inherited, {}), Role::kCommand);
    inherited.mapper = Link();
    inherited.keeper = Link();
    inherited.predecessor = Link();
    EXPECT_EQ(RoleOf(options, inherited, {.has_notify_socket = true}), Role::kCommand);
  }
}

TEST(RoleTest, AnInheritedLinkDecidesAlone) {
  for (const Start& start : AllStarts()) {
    Inheritance of_keeper;
    of_keeper.keeper = Link();
    EXPECT_EQ(RoleOfServer(start, of_keeper), Role::kMapper);
    Inheritance of_predecessor;
    of_predecessor.predecessor = Link();
    EXPECT_EQ(RoleOfServer(start, of_predecessor), Role::kMapper);
    Inheritance of_mapper;
    of_mapper.mapper = Link();
    EXPECT_EQ(RoleOfServer(start, of_mapper), Role::kKeeper);
  }
}

TEST(RoleTest, InTheForeground) {
  EXPECT_EQ(RoleOf(Server(false, false), {}, {}), Role::kKeeper);
  EXPECT_EQ(RoleOf(Server(false, true), {}, {}), Role::kMapper);
  // As a service: systemd keeps the sockets.
  EXPECT_EQ(RoleOf(Server(false, false), {}, {.has_notify_socket = true}), Role::kMapper);
  EXPECT_EQ(RoleOf(Server(false, true), {}, {.has_notify_socket = true}), Role::kMapper);
}

TEST(RoleTest, ADaemonDetachesFirst) {
  for (const bool has_notify_socket : {false, true}) {
    for (const bool no_keeper : {false, true}) {
      EXPECT_EQ(RoleOf(Server(true, no_keeper), {}, {.has_notify_socket = has_notify_socket}),
                Role::kStarter);
      EXPECT_EQ(RoleOf(Server(true, no_keeper), {},
                       {.has_notify_socket = has_notify_socket, .is_detached = true}),
                no_keeper ? Role::kMapper : Role::kKeeper);
    }
  }
}

TEST(RoleTest, InheritedSocketsDecideNothing) {
  for (const Start& start : AllStarts()) {
    Inheritance sockets;
    sockets.listeners.push_back(Link());
    sockets.connections.push_back(Link());
    sockets.watcher = 1;
    sockets.mapper_pid = 1;
    EXPECT_EQ(RoleOfServer(start, sockets), RoleOfServer(start, {}));
  }
}

}  // namespace
}  // namespace evermap
