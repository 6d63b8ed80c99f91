// Tests of epmdctl, with the test itself as the mapper.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>

#include "registry/registry.h"
#include "registry/statistics.h"
#include "registry/status.h"

namespace evermap {
namespace {

using Outcome = UpgradeStatus::Outcome;

struct Ran {
  int exit_code = -1;
  std::string output;  // of both kinds
};

class EpmdctlTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = std::string(directory_) + "/registry";
    // For the threads that play the mapper.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static Ran Run(const std::string& command) {
    Ran ran;
    FILE* out = popen((command + " 2>&1").c_str(), "r");
    if (out == nullptr) return ran;
    for (int c = fgetc(out); c != EOF; c = fgetc(out)) ran.output.push_back(static_cast<char>(c));
    const int status = pclose(out);
    ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ran;
  }
  Ran Epmdctl(const std::string& arguments) const {
    const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "epmdctl";
    return Run(program.string() + " --registry " + path_ + " " + arguments);
  }
  std::unique_ptr<Registry> Open(const std::string& path) {
    auto registry = Registry::Open({.path = path, .capacity = 100});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }
  MapperStatus Self() const {
    return {.pid = static_cast<uint32_t>(getpid()),
            .start_ticks = ProcessStartTicks(getpid()),
            .started_unix_ns = (int64_t{time(nullptr)} - 100) * 1'000'000'000,
            .workers = 3,
            .version = "1.2.3",
            .loop = "epoll, as asked for",
            .custody = "keeper",
            .descriptors_max = 4711};
  }
  // Does `answer` when SIGHUP comes.
  static std::thread OnHangup(std::function<void()> answer) {
    return std::thread([answer = std::move(answer)] {
      sigset_t signals;
      sigemptyset(&signals);
      sigaddset(&signals, SIGHUP);
      const timespec timeout{20, 0};
      if (sigtimedwait(&signals, nullptr, &timeout) == SIGHUP) answer();
    });
  }
  std::string ReadRequest() const {
    std::ifstream file(path_ + ".upgrade", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  bool HasRequest() const { return std::filesystem::exists(path_ + ".upgrade"); }

  char directory_[32] = "/dev/shm/epmdctl-test-XXXXXX";
  std::string path_;
};

TEST_F(EpmdctlTest, WithoutARegistry) {
  for (const char* command : {"list", "lookup hare", "status", "upgrade"}) {
    const Ran ran = Epmdctl(command);
    EXPECT_EQ(ran.exit_code, 2) << command;
    EXPECT_NE(ran.output.find(path_), std::string::npos) << ran.output;
  }
}

TEST_F(EpmdctlTest, ListTellsStates) {
  auto registry = Open(path_);
  const RegisterResult hare = registry->Register({.name = "hare", .port = 5});
  const RegisterResult rabbit = registry->Register({.name = "rabbit\x1b", .port = 6});
  const RegisterResult fox = registry->Register({.name = "fox", .port = 7});
  registry->Orphan(rabbit.slot, rabbit.id);
  registry->Unregister(fox.slot, fox.id);
  auto nodes = nlohmann::json::parse(Epmdctl("list --json").output);
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0]["name"], "hare");
  EXPECT_EQ(nodes[0]["port"], 5);
  EXPECT_EQ(nodes[0]["creation"], hare.creation);
  EXPECT_EQ(nodes[0]["state"], "live");
  EXPECT_TRUE(nodes[0]["since"].is_string());
  EXPECT_TRUE(nodes[0]["left"].is_null());
  EXPECT_EQ(nodes[1]["state"], "orphaned");
  EXPECT_TRUE(nodes[1]["left"].is_string());
  nodes = nlohmann::json::parse(Epmdctl("list --all --json").output);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0]["state"], "remembered");
  const Ran ran = Epmdctl("list --all");
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.output.find("rabbit? "), std::string::npos) << ran.output;
  EXPECT_EQ(Epmdctl("lookup hare").exit_code, 0);
  EXPECT_EQ(Epmdctl("lookup fox").exit_code, 1);
}

TEST_F(EpmdctlTest, StatusTellsWhetherItRuns) {
  auto registry = Open(path_);
  Ran ran = Epmdctl("status --json");
  EXPECT_EQ(ran.exit_code, 3);
  auto status = nlohmann::json::parse(ran.output);
  EXPECT_EQ(status["running"], false);
  EXPECT_TRUE(status["pid"].is_null());
  EXPECT_TRUE(status["last_upgrade"].is_null());

  registry->SetMapperStatus(Self());
  registry->SetUpgradeStatus({3, 1'000'000'000, Outcome::kFailed, "it would not start"});
  registry->Register({.name = "hare"});
  const RegisterResult rabbit = registry->Register({.name = "rabbit"});
  registry->Orphan(rabbit.slot, rabbit.id);
  registry->statistics(0).port2_found = 4;
  registry->statistics(kStatisticsWorkersMax - 1).port2_found = 5;
  ran = Epmdctl("status --json");
  EXPECT_EQ(ran.exit_code, 0);
  status = nlohmann::json::parse(ran.output);
  EXPECT_EQ(status["running"], true);
  EXPECT_EQ(status["pid"], getpid());
  EXPECT_EQ(status["version"], "1.2.3");
  EXPECT_GE(status["uptime_s"], 100);
  EXPECT_LT(status["uptime_s"], 200);
  EXPECT_EQ(status["workers"], 3);
  EXPECT_EQ(status["loop"], "epoll, as asked for");
  EXPECT_EQ(status["custody"], "keeper");
  EXPECT_EQ(status["descriptors_max"], 4711);
  EXPECT_EQ(status["registry"], path_);
  EXPECT_EQ(status["registered"], 2);
  EXPECT_EQ(status["orphaned"], 1);
  EXPECT_EQ(status["names_known"], 2);
  EXPECT_EQ(status["capacity"], 100);
  EXPECT_EQ(status["counters"]["port2_found"], 9);
  EXPECT_EQ(status["last_upgrade"]["outcome"], "failed");
  EXPECT_EQ(status["last_upgrade"]["number"], 3);
  EXPECT_EQ(status["last_upgrade"]["time"], "1970-01-01T00:00:01Z");
  EXPECT_EQ(status["last_upgrade"]["text"], "it would not start");
  ran = Epmdctl("status");
  EXPECT_EQ(ran.exit_code, 0);
  for (const char* text : {"The mapper runs", "1.2.3", "1 min 4", "keeper", "it would not start"}) {
    EXPECT_NE(ran.output.find(text), std::string::npos) << text << " in\n" << ran.output;
  }

  // The same pid, but another process.
  MapperStatus other = Self();
  ++other.start_ticks;
  registry->SetMapperStatus(other);
  registry.reset();
  ran = Epmdctl("status");
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_NE(ran.output.find("does not run"), std::string::npos) << ran.output;
  EXPECT_NE(ran.output.find("1.2.3"), std::string::npos) << ran.output;
  status = nlohmann::json::parse(Epmdctl("status --json").output);
  EXPECT_EQ(status["running"], false);
  EXPECT_EQ(status["custody"], "keeper");
  EXPECT_TRUE(status["uptime_s"].is_null());
}

TEST_F(EpmdctlTest, UpgradeTellsTheOutcome) {
  auto registry = Open(path_);
  EXPECT_EQ(Epmdctl("upgrade").exit_code, 3);
  registry->SetMapperStatus(Self());
  registry->SetUpgradeStatus({7, 1, Outcome::kSucceeded, "an earlier one"});

  std::thread mapper = OnHangup([&] {
    EXPECT_FALSE(HasRequest());
    registry->SetUpgradeStatus({8, 1, Outcome::kRunning, ""});
    usleep(100'000);
    registry->SetUpgradeStatus({8, 1, Outcome::kSucceeded, "from 1.2.3 to 1.2.4"});
  });
  Ran ran = Epmdctl("upgrade");
  mapper.join();
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.output, "from 1.2.3 to 1.2.4\n");

  mapper = OnHangup([&] {
    EXPECT_EQ(ReadRequest(), "/bin/true");
    struct stat file = {};
    EXPECT_EQ(stat((path_ + ".upgrade").c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 07777, 0600u);
    unlink((path_ + ".upgrade").c_str());
    registry->SetUpgradeStatus({9, 1, Outcome::kFailed, "it exited with 0"});
  });
  ran = Epmdctl("upgrade /bin/true --json");
  mapper.join();
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(ran.output)["text"], "it exited with 0");
}

TEST_F(EpmdctlTest, UpgradeToAnotherFile) {
  auto registry = Open(path_);
  registry->SetMapperStatus(Self());
  registry->SetUpgradeStatus({7, 1, Outcome::kFailed, "an earlier one"});
  std::unique_ptr<Registry> fresh;
  std::thread mapper = OnHangup([&] {
    registry->SetUpgradeStatus({8, 1, Outcome::kRunning, ""});
    fresh = Open(path_ + ".new");
    fresh->SetMapperStatus(Self());
    fresh->SetUpgradeStatus({8, 1, Outcome::kRunning, ""});
    rename((path_ + ".new").c_str(), path_.c_str());
    usleep(50'000);
    fresh->SetUpgradeStatus({8, 1, Outcome::kSucceeded, "migrated"});
  });
  const Ran ran = Epmdctl("upgrade --timeout 10");
  mapper.join();
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.output, "migrated\n");
}

TEST_F(EpmdctlTest, UpgradeRefusesWhatIsNoProgram) {
  auto registry = Open(path_);
  registry->SetMapperStatus(Self());
  const std::string text = std::string(directory_) + "/text";
  std::ofstream(text) << "no program";
  for (const std::string& binary : {text, std::string(directory_), text + ".not"}) {
    const Ran ran = Epmdctl("upgrade " + binary);
    EXPECT_EQ(ran.exit_code, 1);
    EXPECT_NE(ran.output.find(binary), std::string::npos) << ran.output;
    EXPECT_FALSE(HasRequest());
  }
}

TEST_F(EpmdctlTest, UpgradeDoesNotWaitForEver) {
  auto registry = Open(path_);
  registry->SetMapperStatus(Self());
  std::thread mapper = OnHangup([] {});
  const Ran ran = Epmdctl("upgrade /bin/true --timeout 1");
  mapper.join();
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_NE(ran.output.find("no outcome after 1 s"), std::string::npos) << ran.output;
  EXPECT_FALSE(HasRequest());
}

}  // namespace
}  // namespace evermap
