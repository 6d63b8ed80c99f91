#include "daemon/serve/worker.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/phase.h"
#include "daemon/serve/serve_fixture_for_test.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"

namespace evermap {
namespace {

// Does, in each turn, what the test says, and keeps in mind how long it was allowed to wait.
class TurningLoop final : public NotingLoop {
 public:
  bool Run(int timeout_ms, LoopHandler&) override {
    timeouts_ms.push_back(timeout_ms);
    in_turn(timeouts_ms.size());
    return false;
  }

  std::function<void(size_t turn)> in_turn;  // counted from 1
  std::vector<int> timeouts_ms;
};

class WorkerTest : public ServeTest {
 protected:
  static constexpr uint32_t kManyDescriptors = 256;

  void SetUp() override {
    ServeTest::SetUp();
    shared_.emplace(ServeOptions{.port = 4369}, *registry_, *custody_, sources_, reservations_,
                    absl::Span<const int>(), kManyDescriptors, [](std::string_view) {});
    auto loop = std::make_unique<TurningLoop>();
    turning_ = loop.get();
    worker_.emplace(0, std::move(loop), *shared_);
  }

  void HandOver(uint64_t nodes) {
    for (uint64_t i = 0; i < nodes; ++i) {
      worker_->Adopt(OwnedFd(fcntl(wake_fd_, F_DUPFD_CLOEXEC, 0)), {.slot = 0, .id = i + 1});
    }
  }

  TurningLoop* turning_ = nullptr;
  std::optional<Worker> worker_;
};

// Some come while the worker still takes earlier ones, and has been woken for both already.
TEST_F(WorkerTest, TakesAllThatWasHandedOverWithoutWaitingForMore) {
  constexpr uint64_t kFirst = 100;  // more than it takes in a turn, and less than in two
  constexpr uint64_t kMore = 10;
  turning_->in_turn = [&](size_t turn) {
    if (turn == 1) HandOver(kFirst);
    if (turn == 2) HandOver(kMore);
    if (turning_->timeouts_ms.back() != 0 && turn > 1) shared_->phases.Set(Phase::kGone);
    ASSERT_LT(turn, 100u);
  };
  shared_->phases.Set(Phase::kServing);
  worker_->Serve();
  EXPECT_EQ(turning_->pending.size(), kFirst + kMore);
  EXPECT_EQ(turning_->timeouts_ms, std::vector<int>({-1, 0, 0, -1}));
}

}  // namespace
}  // namespace evermap
