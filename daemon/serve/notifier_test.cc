// Tests of telling readers of changes.
#include "daemon/serve/notifier.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/serve/serve_fixture_for_test.h"
#include "registry/watch.h"

namespace evermap {
namespace {

// How long something that has to happen may take, and how long nothing has to happen.
constexpr int kPatienceMs = 30'000;
constexpr int kQuietMs = 100;

class NotifierTest : public ServeTest {
 protected:
  void SetUp() override {
    ServeTest::SetUp();
    std::string problem;
    watch_ = RegistryWatch::Open(registry_->path(), problem);
    ASSERT_NE(watch_, nullptr) << problem;
  }
  // Whether a notice comes.
  bool IsTold(int timeout_ms) {
    pollfd waited = {watch_->fd(), POLLIN, 0};
    return poll(&waited, 1, timeout_ms) == 1 && watch_->Take().is_changed;
  }
  RegisterResult Register(int number) {
    return registry_->Register({.name = absl::StrCat("node", number), .port = 4711});
  }

  std::unique_ptr<RegistryWatch> watch_;
};

TEST_F(NotifierTest, BeginsWithANoticeAndThenTellsChangesOnly) {
  Notifier notifier(*registry_);
  Register(0);
  notifier.TellIfChanged();
  watch_->Take();  // The file may have become larger.
  EXPECT_FALSE(IsTold(kQuietMs));
  ASSERT_TRUE(notifier.Start().ok());
  EXPECT_TRUE(IsTold(kPatienceMs));
  for (int i = 0; i < 3; ++i) {
    // It sleeps by then.
    EXPECT_FALSE(IsTold(kQuietMs));
    notifier.TellIfChanged();
    EXPECT_FALSE(IsTold(kQuietMs));
    notifier.Tell();
    EXPECT_TRUE(IsTold(kPatienceMs));
  }
}

TEST_F(NotifierTest, LastOfManyChangesIsTold) {
  Notifier notifier(*registry_);
  ASSERT_TRUE(notifier.Start().ok());
  uint64_t seen = 0;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i <= round % 7; ++i) {
      const RegisterResult node = Register(i);
      registry_->Unregister(node.slot, node.id);
      notifier.TellIfChanged();
    }
    // A reader that looks only when it is told comes to see it.
    while (seen != registry_->view().generation()) {
      ASSERT_TRUE(IsTold(kPatienceMs)) << "round " << round;
      seen = registry_->view().generation();
    }
  }
}

TEST_F(NotifierTest, EndsWithANotice) {
  {
    Notifier notifier(*registry_);
    ASSERT_TRUE(notifier.Start().ok());
    EXPECT_TRUE(IsTold(kPatienceMs));
    EXPECT_FALSE(IsTold(kQuietMs));
    Register(0);
  }
  EXPECT_TRUE(IsTold(0));
}

}  // namespace
}  // namespace evermap
