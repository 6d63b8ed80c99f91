// What the units of a worker stand on, for their tests: a registry, custody, and a loop that only
// notes what it is asked for.
#ifndef EVERMAP_DAEMON_SERVE_SERVE_FIXTURE_FOR_TEST_H_
#define EVERMAP_DAEMON_SERVE_SERVE_FIXTURE_FOR_TEST_H_

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/loop/loop.h"
#include "daemon/names/reservations.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/source_limit.h"
#include "registry/counters.h"
#include "registry/registry.h"

namespace evermap {

class NotingLoop : public Loop {
 public:
  enum class Waiting { kReadable, kWritable };

  void Accept(uint32_t, int) override { ++accepts; }
  void AcceptAnew() override {}
  void StopAccepting() override {}
  bool IsAccepting() const override { return false; }
  void Receive(uint32_t connection, int) override { Await(connection, Waiting::kReadable); }
  void AwaitWritable(uint32_t connection, int) override { Await(connection, Waiting::kWritable); }
  void Forget(uint32_t connection, int) override {
    // Rule 2 of loop.h.
    EXPECT_FALSE(pending.contains(connection));
  }
  bool Run(int, LoopHandler&) override { return false; }
  void Stop() override {}
  void Wake() override { ++wakes; }
  int ready_set() const override { return -1; }

  // Takes the pending operation off a connection, so that the test can complete it.
  void Complete(uint32_t connection, Waiting waiting) {
    const auto found = pending.find(connection);
    ASSERT_TRUE(found != pending.end());
    EXPECT_EQ(found->second, waiting);
    pending.erase(found);
  }

  std::map<uint32_t, Waiting> pending;  // by connection
  int accepts = 0;
  int wakes = 0;

 private:
  void Await(uint32_t connection, Waiting waiting) {
    // Rule 1 of loop.h.
    EXPECT_TRUE(pending.emplace(connection, waiting).second);
  }
};

class ServeTest : public testing::Test {
 protected:
  static constexpr uint32_t kDescriptorsMax = 64;
  static constexpr uint32_t kCapacity = 4;

  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    auto registry =
        Registry::Open({.path = absl::StrCat(directory_, "/registry"), .capacity = kCapacity});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    custody_.emplace(kCapacity, kCapacity, wake_fd_);
    Serve({.port = 4369});
  }

  ~ServeTest() override {
    close(wake_fd_);
    std::filesystem::remove_all(directory_);
  }

  // Makes `shared_` anew.
  void Serve(ServeOptions options) {
    shared_.emplace(std::move(options), *registry_, *custody_, sources_, reservations_,
                    absl::Span<const int>(), kDescriptorsMax, [](std::string_view) {});
  }

  WorkerStatistics& statistics() { return registry_->statistics(0); }

  char directory_[32] = "/dev/shm/serve-test-XXXXXX";
  const int wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::unique_ptr<Registry> registry_;
  std::optional<Custody> custody_;
  SourceLimit sources_;
  FoundUsers users_;
  Reservations reservations_;
  std::optional<Shared> shared_;
  NotingLoop loop_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_SERVE_FIXTURE_FOR_TEST_H_
