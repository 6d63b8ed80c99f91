// The worker, with connections whose bytes come in any pieces and order, and end at any moment. The
// loop is a script; the sockets are real ones of loopback, so that the worker's own calls do what
// they do. At the end every connection is closed and every registration ended.
#include <netinet/in.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/custody/custody.h"
#include "daemon/host/log.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/worker.h"
#include "registry/base/owned_fd.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "tests/fuzz/input.h"

namespace evermap {
namespace {

constexpr uint32_t kDescriptorsMax = 512;
constexpr uint32_t kConnectionsMax = 8;
constexpr int kListener = 0;  // is never accepted from: the script does

// Two ends of a TCP connection over loopback.
std::pair<OwnedFd, OwnedFd> Connect() {
  static const int listener = [] {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Require(bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof(any)) == 0);
    Require(listen(fd, 64) == 0);
    return fd;
  }();
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  // Without the fuzzer's alarm, which says that an input takes too long: a connect(2) that it
  // interrupts would have to be awaited.
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  sigprocmask(SIG_BLOCK, &alarm, nullptr);
  OwnedFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Require(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  sigprocmask(SIG_UNBLOCK, &alarm, nullptr);
  OwnedFd server(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  // Closing resets, whoever does it first, so that no port waits in TIME_WAIT.
  const linger reset = {1, 0};
  for (const OwnedFd* end : {&client, &server}) {
    Require(setsockopt(end->get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
  }
  return {std::move(client), std::move(server)};
}

class ScriptedLoop final : public Loop {
 public:
  ScriptedLoop(const Input& input, std::optional<Shared>& shared)
      : input_(input), shared_(shared) {}

  void Accept(uint32_t, int) override { is_accepting_ = true; }
  void AcceptAnew() override {}
  void StopAccepting() override { is_accepting_ = false; }
  bool IsAccepting() const override { return is_accepting_; }
  void Receive(uint32_t connection, int fd) override { Await(connection, fd, false); }
  void AwaitWritable(uint32_t connection, int fd) override { Await(connection, fd, true); }
  void Forget(uint32_t connection, int) override {
    // Rule 2 of loop.h.
    for (const Pending& pending : pending_) Require(pending.connection != connection);
  }
  void Stop() override {}
  void Wake() override {}
  int ready_set() const override { return -1; }

  bool Run(int, LoopHandler& handler) override {
    if (input_.empty()) {
      // The end: of all that is pending, and then of the worker.
      while (!pending_.empty()) Complete(0, {}, handler);
      shared_->phases.Set(Phase::kLeaving);
      return false;
    }
    const auto step = input_.Take<uint8_t>();
    if (step % 4 == 0 && clients_.size() < kConnectionsMax) {
      if (is_accepting_) AcceptOne(handler);
    } else if (step == 255) {
      handler.OnAcceptFailed(kListener, EMFILE);
    } else if (!pending_.empty()) {
      const size_t which = (step >> 2) % pending_.size();
      const size_t size = step % 4 == 1 ? 0 : input_.Take<uint16_t>() % (kReceiveSizeMax + 1);
      Complete(which, input_.Take(size), handler);
    }
    return step % 8 != 7;
  }

 private:
  struct Pending {
    uint32_t connection;
    bool is_writable;
  };

  void Await(uint32_t connection, int fd, bool is_writable) {
    Require(fd >= 0 && connection < kDescriptorsMax);
    // Rule 1.
    for (const Pending& pending : pending_) Require(pending.connection != connection);
    pending_.push_back({connection, is_writable});
  }
  void AcceptOne(LoopHandler& handler) {
    auto [client, server] = Connect();
    // What comes with a connection.
    const std::string_view bytes = input_.Take(input_.Take<uint16_t>() % (kReceiveSizeMax + 1));
    Require(send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
    clients_.push_back(std::move(client));
    handler.OnAccepted(server.Release());
  }
  void Complete(size_t which, std::string_view bytes, LoopHandler& handler) {
    const Pending pending = pending_[which];
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(which));
    if (pending.is_writable) {
      // Who reads nothing would be waited for: it is gone.
      clients_.clear();
      handler.OnWritable(pending.connection);
    } else {
      handler.OnReceived(
          pending.connection,
          absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
    }
  }

  Input input_;
  std::optional<Shared>& shared_;
  std::vector<OwnedFd> clients_;
  std::vector<Pending> pending_;
  bool is_accepting_ = false;
};

// What a mapper has, for as long as the process.
struct Mapper {
  Mapper() {
    Require(mkdtemp(directory.data()) != nullptr);
    auto opened = Registry::Open({.path = directory + "/registry", .capacity = 64});
    Require(opened.ok());
    registry = *std::move(opened);
  }
  Mapper(const Mapper&) = delete;
  Mapper& operator=(const Mapper&) = delete;
  ~Mapper() {
    unlink((directory + "/registry").c_str());
    unlink((directory + "/registry.lock").c_str());
    rmdir(directory.c_str());
  }
  std::string directory = "/dev/shm/connection-fuzzer-XXXXXX";
  std::unique_ptr<Registry> registry;
  SourceLimit sources;
  Reservations reservations;
  int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::array<int, 1> listeners = {kListener};
};

}  // namespace
}  // namespace evermap

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using evermap::Require;
  static evermap::Mapper mapper;
  evermap::Custody custody(mapper.registry->view().capacity(), evermap::kDescriptorsMax,
                           mapper.wake_fd);
  std::optional<evermap::Shared> shared;
  shared.emplace(evermap::ServeOptions{.relaxed_command_check = true}, *mapper.registry, custody,
                 mapper.sources, mapper.reservations, mapper.listeners, evermap::kDescriptorsMax,
                 [](std::string_view) {});
  // Not on the stack, which gcc 12 with AddressSanitizer aligns to 32 bytes only.
  const auto worker = std::make_unique<evermap::Worker>(
      0, std::make_unique<evermap::ScriptedLoop>(evermap::Input(data, size), shared), *shared);
  shared->loops.push_back(&worker->loop());
  shared->phases.Set(evermap::Phase::kServing);
  worker->Serve();
  Require(mapper.registry->live_count() == 0);
  Require(mapper.registry->statistics(0).connections_now.load() == 0);
  return 0;
}
