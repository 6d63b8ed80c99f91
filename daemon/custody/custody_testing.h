// For tests: a registry in a directory of its own, and custody of nodes that are registered there.
#ifndef EVERMAP_DAEMON_CUSTODY_CUSTODY_TESTING_H_
#define EVERMAP_DAEMON_CUSTODY_CUSTODY_TESTING_H_

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/custody/custody.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/wake_fd.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

class CustodyFixture : public testing::Test {
 protected:
  static constexpr uint32_t kCapacity = 1024;

  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    auto registry =
        Registry::Open({.path = absl::StrCat(directory_, "/registry"), .capacity = kCapacity});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    custody_ = std::make_unique<Custody>(kCapacity, kCapacity, wake_fd_.get());
  }
  void TearDown() override {
    custody_.reset();
    registry_.reset();
    std::filesystem::remove_all(directory_);
  }

  // The node's end of a connection, and ours.
  struct Connection {
    OwnedFd node;
    OwnedFd ours;
  };
  static Connection Connect() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    return {OwnedFd(ends[0]), OwnedFd(ends[1])};
  }

  // Registers a node with this connection, which is not in custody yet.
  RegistrationRef Register(const std::string& name, const Connection& connection,
                           uint16_t port = 4370) {
    const RegisterResult result = registry_->Register(
        {.name = name, .port = port, .connection_cookie = SocketCookie(connection.ours.get())});
    EXPECT_EQ(result.outcome, RegisterResult::Outcome::kRegistered);
    return {result.slot, result.id};
  }
  // The same with a connection that is in custody, as a worker does it.
  RegistrationRef Hold(const std::string& name) {
    Connection connection = Connect();
    const RegistrationRef node = Register(name, connection);
    EXPECT_TRUE(custody_->Reserve());
    custody_->Hold(node.slot, connection.ours.get());
    connections_[node.id] = std::move(connection);
    return node;
  }
  // The node is gone: ends what Hold() began.
  void End(RegistrationRef node) {
    EXPECT_TRUE(registry_->Unregister(node.slot, node.id));
    custody_->GiveUp(node.slot, connections_[node.id].ours.get());
    connections_.erase(node.id);
  }
  Registration Read(RegistrationRef node) const {
    Registration found = {};
    EXPECT_TRUE(registry_->ReadSlot(node.slot, found));
    EXPECT_EQ(found.id, node.id);
    return found;
  }

  OwnedFd wake_fd_ = MakeWakeFd();
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Custody> custody_;
  std::map<uint64_t, Connection> connections_;  // by id

 private:
  char directory_[sizeof("/tmp/evermap-custody-XXXXXX")] = "/tmp/evermap-custody-XXXXXX";
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_CUSTODY_TESTING_H_
