#include "bench/measure/mesh.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/measure/process_usage.h"
#include "registry/base/clock.h"
#include "registry/base/file_text.h"

namespace evermap::bench {
namespace {

constexpr size_t kNodeLogTailSize = 1000;

// What a node runs: it says that it is there, and then does what a line on its standard input says,
// until that ends. Connections are counted by their messages. Two nodes that connect to each other
// at the same moment may refuse one attempt, so what is missing after a while is tried again.
constexpr std::string_view kNodeProgram = R"(
  [Count] = init:get_plain_arguments(),
  Peers = [list_to_atom("mesh" ++ integer_to_list(I) ++ "@localhost")
           || I <- lists:seq(1, list_to_integer(Count))] -- [node()],
  net_kernel:monitor_nodes(true),
  Connect = fun Connect([]) -> ok;
                Connect(Missing) ->
                  [spawn(fun() -> net_kernel:connect_node(P) end) || P <- Missing],
                  (fun Await() ->
                     case Peers -- nodes() of
                       [] -> ok;
                       _ -> receive {nodeup, _} -> Await(); {nodedown, _} -> Await()
                            after 1000 -> Connect(Peers -- nodes()) end
                     end
                   end)()
            end,
  Part = fun Part() ->
           [erlang:disconnect_node(P) || P <- nodes()],
           receive {nodeup, _} -> Part(); {nodedown, _} -> Part() after 200 -> ok end
         end,
  io:format("ready~n"),
  Serve = fun Serve() ->
            case io:get_line("") of
              "connect\n" -> Connect(Peers), io:format("connected~n"), Serve();
              "part\n" -> Part(), io:format("parted~n"), Serve();
              _ -> halt()
            end
          end,
  Serve().)";

// CPU time of all processes since boot.
absl::StatusOr<double> HostCpuMs() {
  // "cpu  user nice system idle iowait irq softirq steal ...", in ticks.
  constexpr size_t kUser = 1, kIdle = 4, kIoWait = 5, kSteal = 8;
  const std::string stat = FileText("/proc/stat");
  const std::string first_line = stat.substr(0, stat.find('\n'));
  const std::vector<std::string> words = absl::StrSplit(first_line, ' ', absl::SkipEmpty());
  double ticks = 0;
  for (size_t i = kUser; i < std::min(kSteal, words.size()); ++i) {
    double value = 0;
    if (i == kIdle || i == kIoWait) continue;
    if (!absl::SimpleAtod(words[i], &value)) return absl::DataLossError("cannot read /proc/stat");
    ticks += value;
  }
  if (words.size() < kSteal) return absl::DataLossError("cannot read /proc/stat");
  return ticks * 1000 / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// Returns when a whole line can be read, and reads it. The node writes each with one write.
absl::Status AwaitLine(int fd, absl::Time deadline) {
  std::array<char, 64> line{};
  while (true) {
    pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    const int ready = left_ms > 0 ? poll(&readable, 1, static_cast<int>(left_ms)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return absl::ErrnoToStatus(errno, "poll");
    if (ready == 0) return absl::DeadlineExceededError("did not answer in time");
    const ssize_t size = read(fd, line.data(), line.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return absl::ErrnoToStatus(errno, "read");
    if (size == 0) return absl::UnavailableError("ended");
    if (line[static_cast<size_t>(size) - 1] == '\n') return absl::OkStatus();
  }
}

}  // namespace

std::vector<double> ValuesOf(const MeshMetric& metric, const std::vector<MeshCost>& costs) {
  std::vector<double> values;
  values.reserve(costs.size());
  for (const MeshCost& cost : costs) values.push_back(cost.*metric.value);
  return values;
}

absl::StatusOr<std::unique_ptr<Mesh>> Mesh::Start(const StartedServer& server,
                                                  const MeshOptions& options) {
  if (options.nodes < 2 || options.nodes > kMeshNodesMax) {
    return absl::InvalidArgumentError(absl::StrCat("nodes of a mesh: 2 to ", kMeshNodesMax));
  }
  std::string directory = "/tmp/epmd-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return absl::ErrnoToStatus(errno, "mkdtemp in /tmp");
  std::unique_ptr<Mesh> mesh(new Mesh(server.pid(), std::move(directory)));
  for (size_t i = 1; i <= options.nodes; ++i) {
    if (absl::Status status = mesh->StartNode(server, options, i); !status.ok()) return status;
  }
  if (absl::Status status = mesh->AwaitAnswers(); !status.ok()) return status;
  return mesh;
}

Mesh::~Mesh() {
  // A node ends with its standard input, and much quicker together with the others.
  for (Node& node : nodes_) node.lines = OwnedFd();
  nodes_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status Mesh::StartNode(const StartedServer& server, const MeshOptions& options,
                             size_t number) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return absl::ErrnoToStatus(errno, "no pair of sockets");
  }
  OwnedFd ours(ends[0]);
  const OwnedFd theirs(ends[1]);
  // Found in PATH by env(1). One scheduler for each node: the host has a few cores for all of them.
  auto process = ChildProcess::Start(
      {.command = {"/usr/bin/env", options.erl, "-noshell", "-start_epmd", "false", "-connect_all",
                   "false", "-setcookie", "mesh", "-sname",
                   absl::StrCat("mesh", number, "@localhost"), "+S", "1:1", "+SDio", "1", "-eval",
                   std::string(kNodeProgram), "-extra", absl::StrCat(options.nodes)},
       .log_path = directory_ + "/log",
       .variables = {absl::StrCat("ERL_EPMD_PORT=", server.endpoint().port()),
                     absl::StrCat("HOME=", directory_), "ERL_CRASH_DUMP_BYTES=0"},
       .standard_input = theirs.get(),
       .standard_output = theirs.get()});
  if (!process.ok()) return process.status();
  nodes_.push_back({.process = *std::move(process), .lines = std::move(ours)});
  return absl::OkStatus();
}

absl::Status Mesh::AwaitAnswers() {
  const absl::Time deadline = absl::Now() + kNodeTimeout;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const absl::Status status = AwaitLine(nodes_[i].lines.get(), deadline);
    if (status.ok()) continue;
    const std::string log = FileText(directory_ + "/log");
    return absl::UnavailableError(absl::StrCat(
        "node ", i + 1, " of ", nodes_.size(), " ", status.message(),
        "; the nodes' log ends with:\n",
        log.size() > kNodeLogTailSize ? log.substr(log.size() - kNodeLogTailSize) : log));
  }
  return absl::OkStatus();
}

absl::Status Mesh::Tell(std::string_view line) {
  for (const Node& node : nodes_) {
    // The node has read all lines before, so that this one finds room.
    if (send(node.lines.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(line.size())) {
      return absl::ErrnoToStatus(errno, "cannot tell a node what to do");
    }
  }
  return AwaitAnswers();
}

absl::StatusOr<MeshCost> Mesh::Form() {
  const auto usage_before = ReadProcessTree(server_pid_);
  if (!usage_before.ok()) return usage_before.status();
  const auto host_before = HostCpuMs();
  if (!host_before.ok()) return host_before.status();
  const int64_t begin_ns = MonotonicNs();
  if (absl::Status status = Tell("connect\n"); !status.ok()) return status;
  const int64_t end_ns = MonotonicNs();
  const auto host_after = HostCpuMs();
  if (!host_after.ok()) return host_after.status();
  const auto usage_after = ReadProcessTree(server_pid_);
  if (!usage_after.ok()) return usage_after.status();
  return MeshCost{
      .all_ms = static_cast<double>(end_ns - begin_ns) / 1e6,
      .mapper_cpu_ms = static_cast<double>(usage_after->cpu_ns - usage_before->cpu_ns) / 1e6,
      .host_cpu_ms = *host_after - *host_before};
}

absl::Status Mesh::Part() { return Tell("part\n"); }

absl::StatusOr<std::vector<std::vector<MeshCost>>> RunMeshRounds(
    absl::Span<const std::unique_ptr<Mesh>> meshes, size_t rounds) {
  std::vector<std::vector<MeshCost>> costs(meshes.size());
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < meshes.size(); ++i) {
      const size_t number = round % 2 == 0 ? i : meshes.size() - 1 - i;
      const auto cost = meshes[number]->Form();
      if (!cost.ok()) return cost.status();
      if (absl::Status status = meshes[number]->Part(); !status.ok()) return status;
      costs[number].push_back(*cost);
    }
  }
  return costs;
}

}  // namespace evermap::bench
