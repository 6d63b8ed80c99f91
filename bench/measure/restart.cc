#include "bench/measure/restart.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "daemon/wire/client.h"
#include "registry/base/clock.h"

namespace evermap::bench {
namespace {

constexpr int kNotRun = 127;
constexpr int kSignalled = 128;
// Longest time for each of the lookups that follow the load.
constexpr absl::Duration kLookupTimeout = absl::Seconds(5);

uint64_t CountLost(const Endpoint& endpoint, const NodeSet& nodes) {
  const Client client(endpoint.host(), endpoint.port(), {.timeout = kLookupTimeout});
  uint64_t lost = 0;
  for (const NodeSet::Node& node : nodes.nodes()) {
    const absl::StatusOr<Client::Node> found = client.Lookup(node.name);
    if (!found.ok() || found->port != node.port) ++lost;
    // A mapper that is gone does not answer for the other nodes either, so all count as lost.
    if (absl::IsUnavailable(found.status()) || absl::IsDeadlineExceeded(found.status())) {
      return nodes.nodes().size();
    }
  }
  return lost;
}

}  // namespace

int RunShellCommand(const std::string& command) {
  std::string shell = "/bin/sh";
  std::string flag = "-c";
  std::string line = command;
  const std::array<char*, 4> arguments = {shell.data(), flag.data(), line.data(), nullptr};
  pid_t pid = 0;
  if (posix_spawn(&pid, shell.c_str(), nullptr, nullptr, arguments.data(), environ) != 0) {
    return kNotRun;
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return kNotRun;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kSignalled + WTERMSIG(status);
}

absl::StatusOr<RestartResult> RunRestart(const Endpoint& endpoint, NodeSet& nodes,
                                         const Traffic& traffic, const RestartOptions& options) {
  RestartResult result;
  NodeKeeper keeper(endpoint, nodes, options.nodes_register_again);
  int64_t act_begin_ns = 0;
  int64_t act_end_ns = 0;
  absl::Notification ended;
  std::thread actor;
  LoadOptions load = options.load;
  load.on_measuring = [&] {
    actor = std::thread([&] {
      // A load that has ended early measures nothing any more, so the act is left out.
      if (ended.WaitForNotificationWithTimeout(options.act_after)) return;
      act_begin_ns = MonotonicNs();
      result.exit_code = options.act();
      act_end_ns = MonotonicNs();
    });
  };
  absl::StatusOr<LoadResult> measured = RunLoad(endpoint, traffic, load);
  ended.Notify();
  if (actor.joinable()) actor.join();
  result.nodes = keeper.Finish();
  if (!measured.ok()) return measured.status();
  result.load = *std::move(measured);
  result.act_begin = absl::Nanoseconds(act_begin_ns - result.load.begin_ns);
  result.act_end = absl::Nanoseconds(act_end_ns - result.load.begin_ns);
  result.registrations_lost = CountLost(endpoint, nodes);
  return result;
}

}  // namespace evermap::bench
