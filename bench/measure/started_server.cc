#include "bench/measure/started_server.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace evermap::bench {
namespace {

constexpr const char* kOwnProgram = "/proc/self/exe";

std::vector<std::string> CommandLine(const ServerProgram& program, uint16_t port,
                                     const std::string& registry_path) {
  std::vector<std::string> command;
  if (program.kind == ServerKind::kFloor) {
    command = {kOwnProgram, "floor", "--address", "127.0.0.1", "--port", absl::StrCat(port)};
  } else {
    command = {program.program, "-port", absl::StrCat(port), "-address", "127.0.0.1"};
    if (program.kind == ServerKind::kEvermap) {
      command.insert(command.end(), {"-registry", registry_path});
    }
  }
  command.insert(command.end(), program.arguments.begin(), program.arguments.end());
  return command;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StartedServer>> StartedServer::Start(const ServerProgram& program,
                                                                    size_t nodes) {
  const auto port = FreePort();
  if (!port.ok()) return port.status();
  const auto endpoint = Endpoint::Parse("127.0.0.1", *port);
  if (!endpoint.ok()) return endpoint.status();
  std::string directory = "/tmp/epmd-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return absl::ErrnoToStatus(errno, "mkdtemp in /tmp");
  std::unique_ptr<StartedServer> server(
      new StartedServer(program.label, *endpoint, std::move(directory)));

  auto process =
      ChildProcess::Start({.command = CommandLine(program, *port, server->registry_path()),
                           .log_path = server->directory_ + "/log",
                           .core = program.core});
  if (!process.ok()) return process.status();
  server->process_ = std::make_unique<ChildProcess>(*std::move(process));
  absl::Status status = server->process_->WaitUntilAnswers(server->endpoint_);
  if (!status.ok()) return status;
  auto set = NodeSet::Register(server->endpoint_, "node", nodes);
  if (!set.ok()) {
    return absl::Status(set.status().code(),
                        absl::StrCat(program.label, ": ", set.status().message()));
  }
  server->nodes_ = *std::move(set);
  return server;
}

StartedServer::~StartedServer() {
  process_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Contestant& StartedServer::Enter(const Mix& mix, const LoadOptions& load) {
  traffic_ =
      std::make_unique<Traffic>(nodes_, mix, Traffic::Options{.mapper_port = endpoint_.port()});
  contestant_ = {};
  contestant_.label = label_;
  contestant_.endpoint = &endpoint_;
  contestant_.traffic = traffic_.get();
  contestant_.load = load;
  contestant_.load.server_pid = pid();
  return contestant_;
}

}  // namespace evermap::bench
