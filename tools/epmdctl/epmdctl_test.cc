// Tests of epmdctl and what it is made of, with the test itself as the mapper.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/clock.h"
#include "registry/counters.h"
#include "registry/registry.h"
#include "registry/status.h"
#include "tools/epmdctl/current_registry.h"
#include "tools/epmdctl/host/epmd_program.h"
#include "tools/epmdctl/host/handshake.h"
#include "tools/epmdctl/host/node_commands.h"
#include "tools/epmdctl/lookup_command.h"
#include "tools/epmdctl/view/changes.h"
#include "tools/epmdctl/view/counters.h"
#include "tools/epmdctl/view/output.h"
#include "tools/epmdctl/view/sample.h"
#include "tools/epmdctl/view/wellness.h"

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
  // lookup asks over TCP then; nobody listens on port 1.
  for (const char* command : {"list", "--port 1 lookup hare", "status", "upgrade", "top --once"}) {
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
  nodes = nlohmann::json::parse(Epmdctl("--json lookup hare").output);
  EXPECT_EQ(nodes["creation"], hare.creation);
  EXPECT_EQ(nodes["via"], "shared memory");
  EXPECT_EQ(nodes["registry"], path_);
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
  registry->statistics(0).latency_buckets[LatencyBucketOf(1'700)] = 98;
  registry->statistics(1).latency_buckets[LatencyBucketOf(1'700'000)] = 2;
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
  EXPECT_EQ(status["latency"]["count"], 100);
  EXPECT_EQ(status["latency"]["p50_us"], 2);
  EXPECT_EQ(status["latency"]["p99_us"], 2048);
  EXPECT_EQ(status["latency"]["max_us"], 2048);
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

TEST_F(EpmdctlTest, UpgradeOfAMapperThatEndsBeforeItBegins) {
  auto registry = Open(path_);
  const pid_t mapper = fork();
  ASSERT_GE(mapper, 0);
  if (mapper == 0) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    const timespec timeout{20, 0};
    sigtimedwait(&signals, nullptr, &timeout);
    _exit(0);
  }
  MapperStatus status = Self();
  status.pid = static_cast<uint32_t>(mapper);
  status.start_ticks = ProcessStartTicks(mapper);
  registry->SetMapperStatus(status);
  registry->SetUpgradeStatus({7, 1, Outcome::kSucceeded, "an earlier one"});
  const Ran ran = Epmdctl("upgrade /bin/true --timeout 5");
  EXPECT_EQ(waitpid(mapper, nullptr, 0), mapper);
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_NE(ran.output.find("before it began"), std::string::npos) << ran.output;
  EXPECT_FALSE(HasRequest());
}

TEST(Statistics, FineBucketsTellThirtyMicrosecondsFromAHundred) {
  for (uint64_t ns = 4'000; ns < 512'000; ns += 500) {
    ASSERT_TRUE(IsFineLatency(ns));
    const size_t bucket = FineLatencyBucketOf(ns);
    EXPECT_LT(ns, FineLatencyBucketEndNs(bucket));
    EXPECT_GE(ns * 9 / 8 + 500, FineLatencyBucketEndNs(bucket));
    if (bucket > 0) {
      EXPECT_GE(ns, FineLatencyBucketEndNs(bucket - 1));
    }
  }
  EXPECT_FALSE(IsFineLatency(3'999));
  EXPECT_FALSE(IsFineLatency(512'000));
  for (size_t bucket = 1; bucket < kShownLatencyBuckets - 1; ++bucket) {
    EXPECT_GT(ShownLatencyEndNs(bucket), ShownLatencyEndNs(bucket - 1));
  }
}

TEST(Statistics, EachLatencyHasItsBucket) {
  uint64_t begin_ns = 0;
  for (size_t bucket = 0; bucket < kLatencyBuckets - 1; ++bucket) {
    const uint64_t end_ns = LatencyBucketEndNs(bucket);
    ASSERT_GT(end_ns, begin_ns);
    EXPECT_EQ(LatencyBucketOf(begin_ns), bucket);
    EXPECT_EQ(LatencyBucketOf(end_ns - 1), bucket);
    if (bucket >= 3) {
      EXPECT_LE(end_ns * 2, begin_ns * 3);
    }
    begin_ns = end_ns;
  }
  EXPECT_EQ(LatencyBucketOf(begin_ns), kLatencyBuckets - 1);
  EXPECT_EQ(LatencyBucketOf(~uint64_t{0}), kLatencyBuckets - 1);
}

TEST(Counters, Quantiles) {
  LatencyCounts latency = {};
  EXPECT_EQ(LatencyQuantileNs(latency, 0.5), std::nullopt);
  EXPECT_TRUE(LatencyJson(latency)["p50_us"].is_null());
  latency[3] = 1;
  EXPECT_EQ(LatencyQuantileNs(latency, 0), ShownLatencyEndNs(3));
  EXPECT_EQ(LatencyQuantileNs(latency, 1), ShownLatencyEndNs(3));
  latency[10] = 999;
  EXPECT_EQ(LatencyQuantileNs(latency, 0.001), ShownLatencyEndNs(3));
  EXPECT_EQ(LatencyQuantileNs(latency, 0.0011), ShownLatencyEndNs(10));
  // The last bucket has no end.
  latency[kShownLatencyBuckets - 1] = 1;
  EXPECT_EQ(LatencyQuantileNs(latency, 1), ShownLatencyEndNs(kShownLatencyBuckets - 2));
  EXPECT_EQ(LatencyJson(latency)["buckets"].size(), kShownLatencyBuckets);
  EXPECT_TRUE(LatencyJson(latency)["buckets"].back()["below_us"].is_null());
}

TEST(Counters, GrowthOfAnotherRegistryIsAllOfIt) {
  CounterTotals before;
  CounterTotals now;
  before.values[0] = 7;
  now.values[0] = 9;
  before.latency[1] = 100;
  now.latency[1] = 3;
  EXPECT_EQ(Growth(before, now).values[0], 2u);
  EXPECT_EQ(Growth(before, now).latency[1], 3u);
}

TEST(Output, Texts) {
  EXPECT_EQ(GroupedText(0), "0");
  EXPECT_EQ(GroupedText(999), "999");
  EXPECT_EQ(GroupedText(1'234'567), "1,234,567");
  EXPECT_EQ(LatencyText(500), "0.5 us");
  EXPECT_EQ(LatencyText(3'000'000), "3.0 ms");
  EXPECT_EQ(LatencyText(393'216'000), "393 ms");
  EXPECT_EQ(DurationText(0), "0 s");
  EXPECT_EQ(DurationText(90'061), "1 d 1 h");
  EXPECT_EQ(TimeTextMs(1'500'000'000), "1970-01-01T00:00:01.500Z");
  EXPECT_EQ(Fitted("h\xc3\xa4re", 3), "h\xc3\xa4r");
  EXPECT_EQ(Fitted("h\xc3\xa4re", 6), "h\xc3\xa4re  ");
  EXPECT_EQ(Fitted("", 0), "");
  EXPECT_EQ(Wrapped("one two three", 7), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(Wrapped("indivisible", 3), std::vector<std::string>{"indivisible"});
  EXPECT_EQ(Style(false).Good("x"), "x");
  EXPECT_EQ(Style(true).Good("x"), "\x1b[32mx\x1b[0m");
}

TEST(Lookup, NodeAddresses) {
  const auto parsed = [](const std::string& text) {
    const NodeAddress address = ParseNodeAddress(text);
    return std::pair(address.name, address.host);
  };
  EXPECT_EQ(parsed("hare"), std::pair(std::string("hare"), std::string()));
  EXPECT_EQ(parsed("hare@host"), std::pair(std::string("hare"), std::string("host")));
  EXPECT_EQ(parsed("a@b@::1"), std::pair(std::string("a@b"), std::string("::1")));
}

TEST(Handshake, Messages) {
  EXPECT_EQ(EncodeSendName("a@b", 6).substr(0, 3), std::string("\0\x12N", 3));
  EXPECT_EQ(EncodeSendName("a@b", 6).size(), 2u + 18u);
  EXPECT_EQ(EncodeSendName("a@b", 5).substr(0, 5), std::string("\0\x0an\0\x05", 5));
  const std::string head = absl::StrCat("N", std::string(16, 'x'));
  EXPECT_EQ(NameInChallenge(absl::StrCat(head, std::string("\0\3", 2), "a@b")), "a@b");
  // A size that is too large takes what there is, and no size nothing.
  EXPECT_EQ(NameInChallenge(absl::StrCat(head, "\xff\xff", "a@b")), "a@b");
  EXPECT_EQ(NameInChallenge(head), "");
  EXPECT_EQ(NameInChallenge(absl::StrCat("n", std::string(10, 'x'), "a@b")), "a@b");
  EXPECT_EQ(NameInChallenge("n"), "");
  EXPECT_EQ(NameInChallenge(""), "");
}

class ChangesTest : public EpmdctlTest {
 protected:
  using Lines = std::vector<std::string>;

  // "registered hare", ...
  static Lines Names(const std::vector<Change>& changes) {
    Lines names;
    for (const Change& change : changes) {
      names.push_back(ChangeName(change.kind) +
                      (change.node.name.empty() ? "" : " " + change.node.name));
    }
    return names;
  }
  // What is new since the last call.
  Lines New() {
    std::string error;
    RegistryState now;
    CurrentRegistry current(path_);
    EXPECT_TRUE(current.Read([&](const RegistryView& view) { now = Capture(view); }, error));
    const std::vector<Change> changes = Changes(last_, now, UnixNs());
    last_ = now;
    return Names(changes);
  }

  RegistryState last_;
};

TEST_F(ChangesTest, OfNodes) {
  auto registry = Open(path_);
  EXPECT_EQ(New(), Lines{});
  const RegisterResult hare = registry->Register({.name = "hare", .port = 5});
  const RegisterResult fox = registry->Register({.name = "fox", .port = 6});
  EXPECT_EQ(New(), (Lines{"registered hare", "registered fox"}));
  EXPECT_EQ(New(), Lines{});
  registry->Orphan(hare.slot, hare.id);
  EXPECT_EQ(New(), Lines{"orphaned hare"});
  registry->Adopt(hare.slot, hare.id, 7);
  EXPECT_EQ(New(), Lines{"adopted hare"});
  registry->Orphan(hare.slot, hare.id);
  registry->Unregister(fox.slot, fox.id);
  EXPECT_EQ(New(), (Lines{"orphaned hare", "left fox"}));
  registry->Unregister(hare.slot, hare.id);
  EXPECT_EQ(New(), Lines{"orphan_ended hare"});
}

TEST_F(ChangesTest, BetweenTwoLooks) {
  auto registry = Open(path_);
  const RegisterResult hare = registry->Register({.name = "hare", .port = 5});
  New();
  // The name is registered anew.
  registry->Unregister(hare.slot, hare.id);
  const RegisterResult again = registry->Register({.name = "hare", .port = 5});
  EXPECT_EQ(New(), (Lines{"left hare", "registered hare"}));
  // One comes and goes.
  const RegisterResult fox = registry->Register({.name = "fox", .port = 6});
  registry->Unregister(fox.slot, fox.id);
  EXPECT_EQ(New(), (Lines{"registered fox", "left fox"}));
  // Another registry, with the same ids.
  registry.reset();
  std::filesystem::remove(path_);
  registry = Open(path_);
  const RegisterResult rabbit = registry->Register({.name = "rabbit", .port = 5});
  EXPECT_LE(rabbit.id, again.id);
  EXPECT_EQ(New(), (Lines{"registered rabbit", "left hare"}));
}

TEST_F(ChangesTest, OfTheMapper) {
  auto registry = Open(path_);
  New();
  MapperStatus mapper = Self();
  registry->SetMapperStatus(mapper);
  EXPECT_EQ(New(), Lines{"mapper_started"});
  ++mapper.start_ticks;  // another process had that pid
  registry->SetMapperStatus(mapper);
  EXPECT_EQ(New(), Lines{"mapper_stopped"});
  registry->SetUpgradeStatus({1, 1, Outcome::kRunning, ""});
  EXPECT_EQ(New(), Lines{"upgrade"});
  registry->SetUpgradeStatus({1, 2, Outcome::kFailed, "why"});
  EXPECT_EQ(New(), Lines{"upgrade"});
  EXPECT_EQ(New(), Lines{});
}

TEST_F(EpmdctlTest, SamplesFitEveryScreen) {
  auto registry = Open(path_);
  registry->SetMapperStatus(Self());
  for (int i = 0; i < 50; ++i) {
    const std::string name = std::to_string(i) + std::string(200, 'x');
    registry->Register({.name = name, .port = 65535});
  }
  for (const CounterRow& row : kCounters) {
    registry->statistics(0).*row.counter = 18'000'000'000'000'000'000u;
  }
  std::string error;
  CurrentRegistry current(path_);
  Sample sample;
  ASSERT_TRUE(current.Read([&](const RegistryView& view) { sample = TakeSample(view); }, error));
  Sample later = sample;
  later.monotonic_ns += 1;
  for (const size_t columns : {1u, 20u, 60u, 78u, 100u, 300u}) {
    for (const size_t lines : {0u, 1u, 5u, 24u, 100u}) {
      const auto drawn = SampleLines(sample, later, columns, lines, Style(false));
      EXPECT_LE(drawn.size(), lines);
      for (const std::string& line : drawn) EXPECT_LE(Columns(line), columns) << line;
    }
  }
  EXPECT_EQ(sample.newest.size(), 50u);
  EXPECT_EQ(sample.newest.front().name.substr(0, 3), "49x");
  EXPECT_EQ(SampleJson(sample, later)["registered"], 50);
}

TEST(NodeCommands, TellWhyANodeIsInNoMapper) {
  const auto why = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {"beam.smp", "--", "-root", "/usr/lib/erlang", "-sname", "rabbit@host"});
    const std::optional<Absence> absence = WhyNotRegistered(ParseNodeCommand(flags), 4369);
    return absence.has_value() ? absence->text : "";
  };
  EXPECT_EQ(why({}), "");
  EXPECT_EQ(why({"-epmd_port", "4369", "-epmd_module", "erl_epmd", "-dist_listen", "true"}), "");
  EXPECT_NE(why({"-dist_listen", "false"}), "");
  EXPECT_NE(why({"-no_epmd"}), "");
  EXPECT_NE(why({"-erl_epmd_port", "4711"}).find("4711"), std::string::npos);
  EXPECT_NE(why({"-kernel", "inet_dist_listen_min", "1", "erl_epmd_node_listen_port", "4711"})
                .find("4711"),
            std::string::npos);
  EXPECT_NE(why({"-kernel", "epmd_module", "mine"}).find("mine"), std::string::npos);
  EXPECT_NE(why({"-epmd_module", "mine"}).find("mine"), std::string::npos);
  EXPECT_NE(why({"-epmd_port", "4370"}).find("4370"), std::string::npos);
  // What follows is the program's own.
  EXPECT_EQ(why({"-extra", "-no_epmd", "-dist_listen", "false"}), "");
}

TEST(NodeCommands, HaveTheirNames) {
  const NodeCommand node = ParseNodeCommand({"-name", "a@b.c", "-proto_dist", "inet_tls"});
  EXPECT_EQ(node.name, "a");
  EXPECT_EQ(node.host, "b.c");
  EXPECT_TRUE(node.has_long_name);
  EXPECT_TRUE(node.is_tls());
  EXPECT_TRUE(ParseNodeCommand({"-sname", "undefined"}).is_dynamic);
}

TEST(EpmdProgram, IsKnownByItsErts) {
  EXPECT_EQ(ErtsVersionIn("/opt/app/erts-15.2.7.10/bin/epmd"), "15.2.7.10");
  EXPECT_EQ(ErtsVersionIn("/usr/bin/epmd"), "");
  EXPECT_EQ(ErtsVersionIn("/erts-x/epmd"), "");
  for (const char* const old : {"13.1.5", "15.2.7.10", "15.2.7", "16.4.0.3", "16.0", "17.0.3"}) {
    EXPECT_EQ(HasCve202642792(old), true) << old;
  }
  for (const char* const mended : {"15.2.7.11", "15.3", "16.4.0.4", "17.0.4", "17.1", "18.0"}) {
    EXPECT_EQ(HasCve202642792(mended), false) << mended;
  }
  EXPECT_EQ(HasCve202642792(""), std::nullopt);
}

TEST(Wellness, SaysTheWorstFirst) {
  Condition condition = {.running = true, .live = 3, .capacity = 100};
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kWell);
  EXPECT_EQ(WellnessLine(condition, JudgeWellness(condition)), "All is well: 3 nodes");
  condition.orphaned = 1;
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kWarning);
  condition.expected = {{.name = "rabbit|x", .is_missing = true, .missing_since_unix_ns = 1}};
  const Diagnosis diagnosis = JudgeWellness(condition);
  EXPECT_EQ(diagnosis.wellness, Wellness::kCritical);
  ASSERT_EQ(diagnosis.complaints.size(), 2u);
  EXPECT_EQ(diagnosis.complaints.front(), "node rabbit|x is missing since 1970-01-01T00:00:00Z");
  // A bar ends the text of a plugin.
  const std::string line = PluginLine(condition, diagnosis);
  EXPECT_EQ(std::count(line.begin(), line.end(), '|'), 1);
  EXPECT_TRUE(line.starts_with("EPMD CRITICAL - node rabbit/x is missing"));
  condition.running = false;
  EXPECT_EQ(JudgeWellness(condition).complaints.size(), 1u);
}

TEST(Wellness, TellsWhatIsFull) {
  Condition condition = {.running = true, .live = 81, .capacity = 100};
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kWarning);
  condition.live = 80;
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kWell);
  condition.connections_now = 900;
  condition.mapper.descriptors_max = 1000;
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kWarning);
  condition.last_minute.emplace();
  condition.last_minute->values[CounterIndex(&WorkerStatistics::refused_registry_full)] = 1;
  EXPECT_EQ(JudgeWellness(condition).wellness, Wellness::kCritical);
}

}  // namespace
}  // namespace evermap
