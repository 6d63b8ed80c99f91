// What the exporter makes of a registry: metrics, service discovery, status page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "registry/counters.h"
#include "registry/registry.h"
#include "registry/status.h"
#include "tools/exporter/metrics.h"
#include "tools/exporter/pages.h"
#include "tools/exporter/snapshot.h"

namespace evermap::exporter {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kSecondNs = 1'000'000'000;

class ExporterTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
    auto registry = Registry::Open({.path = path_, .capacity = 4096});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
  }
  void TearDown() override {
    registry_.reset();
    for (const char* name : {"/registry", "/registry.lock"}) {
      unlink(absl::StrCat(directory_, name).c_str());
    }
    EXPECT_EQ(rmdir(directory_), 0);
  }

  RegisterResult Register(std::string_view name, uint16_t port = 4711) {
    const RegisterResult result =
        registry_->Register({.name = name, .port = port, .node_type = 77});
    EXPECT_EQ(result.outcome, RegisterResult::Outcome::kRegistered);
    return result;
  }
  Snapshot Take() const { return Snapshot::Take(path_); }

  char directory_[32] = "/dev/shm/exporter-test-XXXXXX";
  std::string path_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(ExporterTest, StatesAreCounted) {
  Register("live");
  const RegisterResult orphan = Register("orphan");
  ASSERT_TRUE(registry_->Orphan(orphan.slot, orphan.id));
  const RegisterResult former = Register("former");
  ASSERT_TRUE(registry_->Unregister(former.slot, former.id));
  const std::string text = MetricsText(Take());
  EXPECT_THAT(text, HasSubstr("evermap_names{state=\"live\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("evermap_names{state=\"orphaned\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("evermap_names{state=\"remembered\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("evermap_registry_capacity 4096\n"));
  EXPECT_THAT(text, HasSubstr("name=\"orphan\",port=\"4711\""));
  EXPECT_THAT(text, Not(HasSubstr("name=\"former\"")));
}

TEST_F(ExporterTest, CountersAreSummedOverWorkers) {
  registry_->statistics(0).port2_found += 5;
  registry_->statistics(kStatisticsWorkersMax - 1).port2_found += 37;
  registry_->statistics(3).closed_evicted += 7;
  const std::string text = MetricsText(Take());
  EXPECT_THAT(text, HasSubstr("evermap_requests_total{kind=\"port2\",result=\"found\"} 42\n"));
  EXPECT_THAT(text, HasSubstr("evermap_connections_closed_total{reason=\"evicted\"} 7\n"));
}

TEST_F(ExporterTest, EachCounterHasOneSeries) {
  constexpr size_t kFirst = 1'000'000;
  for (size_t i = 0; i < std::size(kCounters); ++i) {
    registry_->statistics(0).*kCounters[i].counter = kFirst + i;
  }
  const std::string text = MetricsText(Take());
  for (size_t i = 0; i < std::size(kCounters); ++i) {
    const std::string value = absl::StrCat(" ", kFirst + i, "\n");
    const size_t place = text.find(value);
    ASSERT_NE(place, std::string::npos) << kCounters[i].field;
    EXPECT_EQ(text.find(value, place + 1), std::string::npos) << kCounters[i].field;
  }
  for (const CounterFamilyText& family : kCounterFamilies) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("# HELP ", family.metric, " ", family.help, "\n")));
    EXPECT_THAT(text, HasSubstr(absl::StrCat("# TYPE ", family.metric, " counter\n")));
  }
}

TEST_F(ExporterTest, Latencies) {
  std::string text = MetricsText(Take());
  EXPECT_THAT(text, HasSubstr("# TYPE evermap_request_duration_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("evermap_request_duration_seconds_count 0\n"));
  // 2 to 3 us, and more than there are buckets for.
  registry_->statistics(0).latency_buckets[LatencyBucketOf(2'000)] += 3;
  registry_->statistics(9).latency_buckets[LatencyBucketOf(2'999)] += 1;
  registry_->statistics(9).latency_buckets[kLatencyBuckets - 1] += 2;
  text = MetricsText(Take());
  for (const char* line :
       {"_bucket{le=\"2e-06\"} 0\n", "_bucket{le=\"3e-06\"} 4\n", "_bucket{le=\"0.393216\"} 4\n",
        "_bucket{le=\"+Inf\"} 6\n", "_count 6\n", "_sum 0.786442"}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("evermap_request_duration_seconds", line)));
  }
}

TEST_F(ExporterTest, ConnectionsAreNeverBelowZero) {
  registry_->statistics(1).connections_now -= 3;
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_connections 0\n"));
  registry_->statistics(2).connections_now += 5;
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_connections 2\n"));
}

TEST_F(ExporterTest, MapperIsUpWhileItsProcessIs) {
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_mapper_up 0\n"));
  MapperStatus status;
  status.pid = static_cast<uint32_t>(getpid());
  status.start_ticks = ProcessStartTicks(getpid());
  status.started_unix_ns = 1'700'000'000 * kSecondNs;
  status.workers = 8;
  status.version = "1.2.3";
  status.loop = "epoll: io_uring is refused";
  status.custody = "systemd";
  registry_->SetMapperStatus(status);
  std::string text = MetricsText(Take());
  EXPECT_THAT(text, HasSubstr("evermap_mapper_up 1\n"));
  EXPECT_THAT(text, HasSubstr("evermap_mapper_workers 8\n"));
  EXPECT_THAT(text, HasSubstr("evermap_mapper_start_time_seconds 1700000000\n"));
  EXPECT_THAT(text, HasSubstr("evermap_mapper_info{version=\"1.2.3\","
                              "loop=\"epoll: io_uring is refused\",custody=\"systemd\"} 1\n"));
  const std::string page = StatusPageHtml(Take(), 1'700'090'061 * kSecondNs);
  EXPECT_THAT(page, HasSubstr("Running"));
  EXPECT_THAT(page, HasSubstr("1 d 1 h"));

  status.start_ticks += 1;  // another process has its pid
  registry_->SetMapperStatus(status);
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_mapper_up 0\n"));
  EXPECT_THAT(StatusPageHtml(Take(), 0), HasSubstr("does not run"));
}

TEST_F(ExporterTest, Upgrades) {
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_upgrades_total 0\n"));
  UpgradeStatus upgrade;
  upgrade.number = 3;
  upgrade.outcome = UpgradeStatus::Outcome::kFailed;
  upgrade.text = "the new one <hangs>";
  registry_->SetUpgradeStatus(upgrade);
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_upgrades_total 3\n"));
  EXPECT_THAT(MetricsText(Take()), HasSubstr("evermap_last_upgrade_failed 1\n"));
  EXPECT_THAT(StatusPageHtml(Take(), 0), HasSubstr("the new one &lt;hangs&gt;"));
}

// Whoever registers a name chooses its bytes.
TEST_F(ExporterTest, NamesAreEscaped) {
  Register("a\"b\\c\nd");
  Register("<script>alert('1')</script>&");
  Register("bad\xff\xc0\x80 utf-8");
  Register("hästen");
  const Snapshot snapshot = Take();
  const std::string text = MetricsText(snapshot);
  EXPECT_THAT(text, HasSubstr("name=\"a\\\"b\\\\c?d\""));
  EXPECT_THAT(text, HasSubstr("name=\"bad??? utf-8\""));
  EXPECT_THAT(text, HasSubstr("name=\"hästen\""));
  const std::string page = StatusPageHtml(snapshot, 0);
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;"));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  const auto groups = nlohmann::json::parse(ServiceDiscoveryJson(snapshot, "hare"));
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0]["labels"]["__meta_evermap_name"], "<script>alert('1')</script>&");
}

TEST_F(ExporterTest, ServiceDiscovery) {
  EXPECT_EQ(nlohmann::json::parse(ServiceDiscoveryJson(Take(), "hare")), nlohmann::json::array());
  const RegisterResult rabbit = Register("rabbit", 25672);
  Register("without_port", 0);
  const nlohmann::json expected = {{
      {"targets", {"hare.example:25672"}},
      {"labels",
       {{"__meta_evermap_name", "rabbit"},
        {"__meta_evermap_port", "25672"},
        {"__meta_evermap_creation", absl::StrCat(rabbit.creation)},
        {"__meta_evermap_state", "live"},
        {"__meta_evermap_type", "normal"}}},
  }};
  EXPECT_EQ(nlohmann::json::parse(ServiceDiscoveryJson(Take(), "hare.example")), expected);
  for (const char* host : {"2001:db8::7", "[2001:db8::7]"}) {
    const auto groups = nlohmann::json::parse(ServiceDiscoveryJson(Take(), host));
    EXPECT_EQ(groups[0]["targets"][0], "[2001:db8::7]:25672");
  }
}

TEST_F(ExporterTest, LongTablesAreCut) {
  for (size_t i = 0; i < kStatusPageNodesMax + 5; ++i) Register(absl::StrCat("node", i));
  EXPECT_THAT(StatusPageHtml(Take(), 0), HasSubstr("and 5 more"));
}

TEST_F(ExporterTest, UnreadableRegistry) {
  const std::string missing = path_ + ".missing";
  const Snapshot snapshot = Snapshot::Take(missing);
  EXPECT_FALSE(snapshot.readable());
  EXPECT_THAT(snapshot.problem(), HasSubstr(missing));
  EXPECT_THAT(MetricsText(snapshot), HasSubstr("evermap_registry_readable 0\n"));
  EXPECT_THAT(MetricsText(snapshot), HasSubstr("evermap_mapper_up 0\n"));
  EXPECT_THAT(StatusPageHtml(snapshot, 0), HasSubstr(missing));
}

}  // namespace
}  // namespace evermap::exporter
