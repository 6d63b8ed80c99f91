// epmd-bench: what an EPMD server does under load.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/endpoint.h"
#include "bench/lookup_load.h"
#include "bench/node_set.h"
#include "bench/server_process.h"

namespace evermap::bench {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "epmd-bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double Us(uint64_t ns) { return static_cast<double>(ns) / 1000; }

void PrintFailures(const LookupResult& result) {
  for (size_t i = 1; i < kLookupOutcomes; ++i) {
    if (result.outcomes[i] == 0) continue;
    std::printf("  %s: %llu\n",
                std::string(LookupOutcomeName(static_cast<LookupOutcome>(i))).c_str(),
                static_cast<unsigned long long>(result.outcomes[i]));
  }
}

struct LookupOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 4369;
  size_t nodes = 100;
  LookupLoad load;
  double seconds = 3;
  pid_t pid = 0;
};

int Lookup(LookupOptions options) {
  options.load.duration = absl::Seconds(options.seconds);
  RaiseDescriptorLimit();
  const auto endpoint = Endpoint::Parse(options.address, options.port);
  if (!endpoint.ok()) return Fail(endpoint.status());
  const auto nodes =
      NodeSet::Register(*endpoint, absl::StrCat("bench", getpid(), "x"), options.nodes);
  if (!nodes.ok()) return Fail(nodes.status());
  uint64_t cpu_before_ns = 0;
  if (options.pid != 0) {
    const auto cpu_ns = ProcessCpuNs(options.pid);
    if (!cpu_ns.ok()) return Fail(cpu_ns.status());
    cpu_before_ns = *cpu_ns;
  }
  const auto result = RunLookups(*endpoint, *nodes, options.load);
  if (!result.ok()) return Fail(result.status());
  std::printf("%llu lookups, %.0f/s, %llu failed\n",
              static_cast<unsigned long long>(result->total()), result->PerSecond(),
              static_cast<unsigned long long>(result->failed()));
  PrintFailures(*result);
  for (const double percent : {50.0, 90.0, 99.0, 99.9, 99.99}) {
    std::printf("  p%-5g %8.1f us\n", percent, Us(result->latencies.PercentileNs(percent)));
  }
  std::printf("  max    %8.1f us\n", Us(result->latencies.max_ns()));
  if (options.pid != 0) {
    const auto cpu_ns = ProcessCpuNs(options.pid);
    if (!cpu_ns.ok()) return Fail(cpu_ns.status());
    std::printf("  server CPU %.2f us per lookup\n",
                Us(*cpu_ns - cpu_before_ns) / static_cast<double>(result->total()));
  }
  return result->failed() == 0 ? 0 : 1;
}

struct CompareOptions {
  std::string stock;
  std::string ours;
  std::vector<size_t> nodes = {100, 500, 900};
  uint32_t rounds = 5;
  LookupLoad load;
  double seconds = 1;
};

// A server with nodes registered.
class Side {
 public:
  static absl::StatusOr<std::unique_ptr<Side>> Start(std::vector<std::string> command,
                                                     const std::string& log_path, size_t nodes) {
    const auto port = FreePort();
    if (!port.ok()) return port.status();
    const auto endpoint = Endpoint::Parse("127.0.0.1", *port);
    if (!endpoint.ok()) return endpoint.status();
    command.insert(command.end(), {"-port", absl::StrCat(*port), "-address", "127.0.0.1"});
    auto process = ServerProcess::Start({.command = command, .log_path = log_path, .core = 0});
    if (!process.ok()) return process.status();
    if (absl::Status status = process->WaitUntilAnswers(*endpoint); !status.ok()) return status;
    auto set = NodeSet::Register(*endpoint, "node", nodes);
    if (!set.ok()) return set.status();
    return std::unique_ptr<Side>(new Side(*endpoint, *std::move(process), *std::move(set)));
  }

  // Adds a round's CPU time per lookup and p50, in microseconds.
  absl::Status Measure(const LookupLoad& load) {
    const auto before_ns = ProcessCpuNs(process_.pid());
    if (!before_ns.ok()) return before_ns.status();
    const auto result = RunLookups(endpoint_, nodes_, load);
    if (!result.ok()) return result.status();
    const auto after_ns = ProcessCpuNs(process_.pid());
    if (!after_ns.ok()) return after_ns.status();
    if (result->failed() > 0) {
      return absl::DataLossError(
          absl::StrCat(result->failed(), " lookups failed at ", endpoint_.text()));
    }
    cpu_us.push_back(Us(*after_ns - *before_ns) / static_cast<double>(result->total()));
    p50_us.push_back(Us(result->latencies.PercentileNs(50)));
    return absl::OkStatus();
  }

  std::vector<double> cpu_us;
  std::vector<double> p50_us;

 private:
  Side(const Endpoint& endpoint, ServerProcess process, NodeSet nodes)
      : endpoint_(endpoint), process_(std::move(process)), nodes_(std::move(nodes)) {}

  Endpoint endpoint_;
  ServerProcess process_;
  NodeSet nodes_;
};

absl::Status CompareAt(const CompareOptions& options, const std::string& directory, size_t nodes) {
  const auto stock = Side::Start({options.stock}, directory + "/stock.log", nodes);
  if (!stock.ok()) return stock.status();
  const auto ours = Side::Start({options.ours, "-registry", directory + "/registry"},
                                directory + "/ours.log", nodes);
  if (!ours.ok()) return ours.status();
  if (absl::Status status = PinToCore(1); !status.ok()) return status;
  for (uint32_t i = 0; i < options.rounds; ++i) {
    for (const auto& side : {stock->get(), ours->get()}) {
      if (absl::Status status = side->Measure(options.load); !status.ok()) return status;
    }
  }
  const double stock_us = Median((*stock)->cpu_us);
  const double ours_us = Median((*ours)->cpu_us);
  std::printf("%6zu  %10.2f  %10.2f  %6.3f  %10.1f  %10.1f\n", nodes, stock_us, ours_us,
              ours_us / stock_us, Median((*stock)->p50_us), Median((*ours)->p50_us));
  std::fflush(stdout);
  return absl::OkStatus();
}

int Compare(CompareOptions options) {
  options.load.duration = absl::Seconds(options.seconds);
  RaiseDescriptorLimit();
  char directory[] = "/tmp/epmd-bench-XXXXXX";
  if (mkdtemp(directory) == nullptr) return Fail(absl::ErrnoToStatus(errno, "mkdtemp in /tmp"));
  std::printf("server CPU per lookup and median latency, medians of %u rounds, in us\n",
              options.rounds);
  std::printf("%6s  %10s  %10s  %6s  %10s  %10s\n", "nodes", "stock CPU", "ours CPU", "ratio",
              "stock p50", "ours p50");
  absl::Status status;
  for (const size_t nodes : options.nodes) {
    status = CompareAt(options, directory, nodes);
    if (!status.ok()) break;
  }
  for (const char* name : {"stock.log", "ours.log", "registry", "registry.lock"}) {
    unlink(absl::StrCat(directory, "/", name).c_str());
  }
  rmdir(directory);
  return status.ok() ? 0 : Fail(status);
}

int Main(int argc, char** argv) {
  CLI::App app("Load test for Erlang port mappers.", "epmd-bench");
  app.set_version_flag("--version", "epmd-bench " EVERMAP_VERSION);
  app.require_subcommand(1);

  LookupOptions lookup;
  CLI::App* lookup_command =
      app.add_subcommand("lookup", "register nodes and look them up in a closed loop");
  lookup_command->add_option("--address", lookup.address, "IP address")->capture_default_str();
  lookup_command->add_option("--port", lookup.port, "port")->capture_default_str();
  lookup_command->add_option("--nodes", lookup.nodes, "nodes to register")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  lookup_command->add_option("--connections", lookup.load.connections, "lookups at a time")
      ->check(CLI::Range(1u, kConnectionsMax))
      ->capture_default_str();
  lookup_command->add_option("--seconds", lookup.seconds, "duration")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  lookup_command->add_option("--pid", lookup.pid, "process of the server: prints its CPU time");

  CompareOptions compare;
  CLI::App* compare_command = app.add_subcommand(
      "compare",
      "start the stock epmd and ours on one core, the load on another, and measure them in turn");
  compare_command->add_option("--stock", compare.stock, "program of the stock epmd")->required();
  compare_command->add_option("--ours", compare.ours, "program of Evermap's mapper")->required();
  compare_command->add_option("--nodes", compare.nodes, "numbers of nodes")->capture_default_str();
  compare_command->add_option("--rounds", compare.rounds, "rounds for each number")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  compare_command->add_option("--connections", compare.load.connections, "lookups at a time")
      ->check(CLI::Range(1u, kConnectionsMax))
      ->capture_default_str();
  compare_command->add_option("--seconds", compare.seconds, "duration of a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return lookup_command->parsed() ? Lookup(lookup) : Compare(compare);
}

}  // namespace
}  // namespace evermap::bench

int main(int argc, char** argv) { return evermap::bench::Main(argc, argv); }
