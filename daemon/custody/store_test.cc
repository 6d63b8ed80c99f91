// Which store a process has; and the three stores, where the other side does not listen, is gone, or says what nobody expects.
#include "daemon/custody/store.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/custody/choose_store.h"
#include "daemon/custody/keeper_store.h"
#include "daemon/custody/no_store.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/systemd_store.h"
#include "daemon/custody/words.h"
#include "daemon/host/steady_time.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

constexpr char kProgram[] = "/usr/bin/epmd";

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto ends = NotifyPair();
    ASSERT_TRUE(ends.ok()) << ends.status();
    ours_ = std::move(ends->first);
    theirs_ = std::move(ends->second);
  }
  static OwnedFd File() { return OwnedFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  // The other side's queue takes no more.
  static void FillQueue(int link) {
    while (SendNotification(link, "more") == 0) {
    }
  }

  OwnedFd ours_;
  OwnedFd theirs_;
  Notification message_;
};

TEST_F(StoreTest, AKeeperComesBeforeSystemdAndSystemdBeforeNobody) {
  for (const bool is_daemon : {false, true}) {
    for (const bool has_notify_socket : {false, true}) {
      HoldersAround around = {.has_notify_socket = has_notify_socket, .is_daemon = is_daemon};
      const bool is_systemds = has_notify_socket && !is_daemon;
      EXPECT_EQ(HolderOf(around), is_systemds ? Holder::kSystemd : Holder::kNobody);
      EXPECT_EQ(NeedsKeeper(around, /*wants_none=*/false), !is_systemds);
      EXPECT_FALSE(NeedsKeeper(around, /*wants_none=*/true));
      around.has_keeper = true;
      EXPECT_EQ(HolderOf(around), Holder::kKeeper);
      EXPECT_FALSE(NeedsKeeper(around, /*wants_none=*/false));
    }
  }
}

TEST_F(StoreTest, TheOneThatIsThereIsChosen) {
  // A socket that nobody listens on is warned of, and holds nothing.
  setenv(variables::kNotifySocket, "/nowhere/notify", 1);
  EXPECT_EQ(ChooseStore(OwnedFd(), /*is_daemon=*/false).store->name(), "none");
  const ChosenStore chosen = ChooseStore(std::move(ours_), /*is_daemon=*/false);
  unsetenv(variables::kNotifySocket);
  EXPECT_EQ(chosen.store->name(), "keeper");
  EXPECT_EQ(chosen.keeper, chosen.store.get());
  EXPECT_STREQ(chosen.store->link_variable(), variables::kKeeperLink);
  const ChosenStore none = ChooseStore(OwnedFd(), /*is_daemon=*/false);
  EXPECT_EQ(none.store->name(), "none");
  EXPECT_EQ(none.keeper, nullptr);
  EXPECT_EQ(none.store->link_variable(), nullptr);
}

TEST_F(StoreTest, OneThatKeepsNothing) {
  NoStore store;
  EXPECT_EQ(store.name(), "none");
  EXPECT_FALSE(store.holds());
  EXPECT_FALSE(store.outlives_mapper());
  EXPECT_EQ(store.link(), -1);
  OwnedFd file = File();
  const int number = file.get();
  store.Put(std::move(file));
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
  EXPECT_EQ(store.waiting(), 0u);
  EXPECT_TRUE(store.Flush());
  EXPECT_TRUE(store.FlushPatiently(SteadyNow()));
  EXPECT_TRUE(store.AnnounceMapper());
  store.AnnounceStopping();
  store.ForgetFiles({});
}

TEST_F(StoreTest, WhatItDoesNotTakeWaits) {
  KeeperStore store(std::move(ours_), kProgram);
  EXPECT_TRUE(store.holds());
  FillQueue(store.link());
  const size_t count = 2 * kNotifyFdsMax + 1;
  for (size_t i = 0; i < count; ++i) store.Put(File());
  EXPECT_TRUE(store.Flush());
  EXPECT_EQ(store.waiting(), count);
  size_t taken = 0;
  while (AwaitNotification(theirs_.get(), message_, absl::ZeroDuration()) == Received::kMessage) {
    taken += message_.fds.size();
  }
  EXPECT_EQ(taken, 0u);
  EXPECT_TRUE(store.FlushPatiently(SteadyNow() + Store::kTellTimeout));
  EXPECT_EQ(store.waiting(), 0u);
  while (ReceiveNotification(theirs_.get(), message_) == Received::kMessage) {
    EXPECT_EQ(message_.Get("FDSTORE"), "1");
    EXPECT_LE(message_.fds.size(), kNotifyFdsMax);
    taken += message_.fds.size();
  }
  EXPECT_EQ(taken, count);
}

TEST_F(StoreTest, OneThatIsGone) {
  KeeperStore store(std::move(ours_), kProgram);
  theirs_ = OwnedFd();
  store.Put(File());
  EXPECT_FALSE(store.Flush());
  EXPECT_EQ(store.waiting(), 1u);
  EXPECT_FALSE(store.FlushPatiently(SteadyNow() + Store::kTellTimeout));
  // It is the mapper all the same, and starts another keeper.
  EXPECT_TRUE(store.AnnounceMapper());
}

TEST_F(StoreTest, AnotherKeeperHasNothingYet) {
  KeeperStore store(std::move(ours_), kProgram);
  theirs_ = OwnedFd();
  store.Put(File());
  EXPECT_FALSE(store.Flush());
  auto ends = NotifyPair();
  ASSERT_TRUE(ends.ok()) << ends.status();
  store.Reconnect(std::move(ends->first));
  EXPECT_EQ(store.waiting(), 0u);
  store.Put(File());
  EXPECT_TRUE(store.Flush());
  EXPECT_EQ(ReceiveNotification(ends->second.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.fds.size(), 1u);
}

TEST_F(StoreTest, AKeeperIsToldTheProgram) {
  KeeperStore store(std::move(ours_), kProgram);
  EXPECT_EQ(store.name(), "keeper");
  EXPECT_FALSE(store.outlives_mapper());
  EXPECT_TRUE(store.AnnounceMapper());
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.Get(words::kMainPid), absl::StrCat(getpid()));
  EXPECT_EQ(message_.Get("READY"), "1");
  EXPECT_EQ(message_.Get(words::kProgram), kProgram);
  store.AnnounceStopping();
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.Get("STOPPING"), "1");
}

TEST_F(StoreTest, AProgramWithTooLongANameIsNotNamed) {
  KeeperStore store(std::move(ours_), std::string(kNotifyTextMax, 'x'));
  EXPECT_TRUE(store.AnnounceMapper());
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.Get("READY"), "1");
  EXPECT_EQ(message_.Get(words::kProgram), std::nullopt);
}

TEST_F(StoreTest, OneThatWantsAnotherMapper) {
  KeeperStore store(std::move(ours_), kProgram);
  // What Keeper::OnMapperEnd() does.
  ASSERT_EQ(shutdown(theirs_.get(), SHUT_RD), 0);
  ASSERT_EQ(SendNotification(theirs_.get(), words::kTooLate), 0);
  EXPECT_FALSE(store.AnnounceMapper());
}

TEST_F(StoreTest, OneThatSaysSomethingElse) {
  KeeperStore store(std::move(ours_), kProgram);
  ASSERT_EQ(shutdown(theirs_.get(), SHUT_RD), 0);
  ASSERT_EQ(SendNotification(theirs_.get(), "something else"), 0);
  EXPECT_TRUE(store.AnnounceMapper());
}

TEST_F(StoreTest, FilesAreForgottenByTheirNames) {
  KeeperStore store(std::move(ours_), kProgram);
  const std::vector<Claim::File> files = {{.name = "one"}, {.name = "two"}};
  store.ForgetFiles(files);
  for (const char* name : {"one", "two"}) {
    ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
    EXPECT_EQ(message_.Get("FDSTOREREMOVE"), "1");
    EXPECT_EQ(message_.Get("FDNAME"), name);
  }
}

TEST_F(StoreTest, SystemdIsNotToldTheProgram) {
  SystemdStore store(std::move(ours_));
  store.WarnOfLoss();
  EXPECT_EQ(store.name(), "systemd");
  EXPECT_TRUE(store.outlives_mapper());
  // A successor reaches systemd by itself, and its end is no event.
  EXPECT_EQ(store.link(), -1);
  EXPECT_TRUE(store.AnnounceMapper());
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.Get(words::kMainPid), absl::StrCat(getpid()));
  EXPECT_EQ(message_.Get("READY"), "1");
  EXPECT_EQ(message_.Get(words::kProgram), std::nullopt);
}

}  // namespace
}  // namespace evermap
