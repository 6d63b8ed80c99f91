#include "daemon/mapper.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/custody.h"
#include "daemon/listeners.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/peer.h"
#include "daemon/worker.h"
#include "registry/registry.h"
#include "registry/segment.h"

namespace evermap {
namespace {

// Above this a larger limit of open files only costs memory.
constexpr rlim_t kDescriptorsMax = 1u << 20;

// Wakes the main thread for a stop. Of the process, since there is one mapper in it.
int g_stop_fd = -1;

void RequestStop(std::string_view reason) {
  Log(Severity::kNotice, "ends: %s", reason);
  const uint64_t one = 1;
  // Fails only when the counter is full: then the stop is on its way.
  [[maybe_unused]] const ssize_t written = write(g_stop_fd, &one, sizeof(one));
}

int Fail(absl::string_view message) {
  Log(Severity::kError, "%s", message);
  return 1;
}

// As many descriptors as this process may have.
uint32_t RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlim_t wanted = std::min(limit.rlim_max, kDescriptorsMax);
  if (limit.rlim_cur < wanted) {
    const rlim_t before = std::exchange(limit.rlim_cur, wanted);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  return static_cast<uint32_t>(std::min(limit.rlim_cur, kDescriptorsMax));
}

uint32_t WorkerCount(const Options& options) {
  if (options.workers != 0) return options.workers;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  // Fails on hosts with more cores than a cpu_set_t has bits.
  const int count = sched_getaffinity(0, sizeof(cores), &cores) == 0
                        ? CPU_COUNT(&cores)
                        : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp<uint32_t>(static_cast<uint32_t>(count), 1, kWorkersMax);
}

absl::StatusOr<std::vector<std::unique_ptr<Loop>>> CreateLoops(LoopKind kind, uint32_t count,
                                                               const Loop::Options& options) {
  std::vector<std::unique_ptr<Loop>> loops;
  for (uint32_t i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<Loop>> loop = Loop::Create(kind, options);
    if (!loop.ok()) return loop.status();
    loops.push_back(*std::move(loop));
  }
  return loops;
}

absl::StatusOr<std::vector<std::unique_ptr<Loop>>> ChooseLoops(LoopChoice choice, uint32_t count,
                                                               const Loop::Options& options,
                                                               std::string& reason) {
  if (choice == LoopChoice::kEpoll) {
    reason = "epoll, as asked for";
    return CreateLoops(LoopKind::kEpoll, count, options);
  }
  auto loops = CreateLoops(LoopKind::kIoUring, count, options);
  if (loops.ok()) {
    reason = choice == LoopChoice::kIoUring ? "io_uring, as asked for" : "io_uring";
    return loops;
  }
  if (choice == LoopChoice::kIoUring) {
    return absl::FailedPreconditionError(absl::StrCat("-loop io_uring: ", loops.status().message(),
                                                      "; allow it, or use -loop auto"));
  }
  reason = absl::StrCat("epoll, because ", loops.status().message());
  return CreateLoops(LoopKind::kEpoll, count, options);
}

absl::StatusOr<std::unique_ptr<Registry>> OpenRegistry(const Options& options) {
  Registry::Options registry_options{.path = options.registry_path, .capacity = options.capacity};
  if (registry_options.path.empty()) {
    registry_options.path = DefaultRegistryPath(options.port);
    const absl::Status made = MakeRegistryDirectory(registry_options.path);
    if (!made.ok()) return made;
  }
  return Registry::Open(registry_options);
}

// Connections die with their mapper, so nothing keeps alive what an earlier one had registered.
void EndLostRegistrations(Registry& registry) {
  uint32_t ended = 0;
  registry.ForEach([&](const Registration& node) {
    if (node.state != RegistrationState::kRemembered && registry.Unregister(node.slot, node.id)) {
      ++ended;
    }
  });
  if (ended > 0) {
    Log(Severity::kNotice, "%d nodes of an earlier mapper have to register again", ended);
  }
}

OwnedFd SignalDescriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  // Before threads start, so that all have them blocked.
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) return OwnedFd();
  signal(SIGPIPE, SIG_IGN);
  return OwnedFd(signalfd(-1, &signals, SFD_CLOEXEC));
}

// Returns when the mapper is to end.
void AwaitStop(int signal_fd, int stop_fd) {
  std::array<pollfd, 2> waiting = {{{signal_fd, POLLIN, 0}, {stop_fd, POLLIN, 0}}};
  while (true) {
    if (poll(waiting.data(), waiting.size(), -1) < 0) {
      if (errno == EINTR) continue;
      Log(Severity::kError, "cannot wait for signals: %s", ErrorText(errno));
      return;
    }
    if (waiting[1].revents != 0) return;
    signalfd_siginfo signal = {};
    if (read(signal_fd, &signal, sizeof(signal)) != sizeof(signal)) continue;
    if (signal.ssi_signo == SIGHUP) {
      Log(Severity::kNotice, "SIGHUP: there is no configuration to read again");
      continue;
    }
    Log(Severity::kNotice, "ends: got signal %s", sigabbrev_np(static_cast<int>(signal.ssi_signo)));
    return;
  }
}

}  // namespace

int RunMapper(const Options& options, absl::FunctionRef<void()> on_ready) {
  const uint32_t descriptors_max = RaiseDescriptorLimit();
  absl::StatusOr<std::vector<OwnedFd>> sockets =
      options.systemd ? ListenersFromSystemd() : BindListeners(options);
  if (absl::IsAlreadyExists(sockets.status())) {
    // What `erl` relies on: whoever starts a second mapper has one.
    Log(Severity::kRegistrations, "%s", sockets.status().message());
    return 0;
  }
  if (!sockets.ok()) return Fail(sockets.status().message());
  absl::StatusOr<std::unique_ptr<Registry>> registry = OpenRegistry(options);
  if (!registry.ok()) return Fail(registry.status().message());
  EndLostRegistrations(**registry);

  const OwnedFd signal_fd = SignalDescriptor();
  const OwnedFd stop_fd(eventfd(0, EFD_CLOEXEC));
  if (!signal_fd.valid() || !stop_fd.valid()) {
    return Fail(absl::StrCat("no descriptor for signals: ", ErrorText(errno)));
  }
  g_stop_fd = stop_fd.get();

  std::string loop_reason;
  auto loops = ChooseLoops(options.loop, WorkerCount(options), {.connections_max = descriptors_max},
                           loop_reason);
  if (!loops.ok()) return Fail(loops.status().message());

  // The lowest free number tells how many are in use.
  const OwnedFd lowest_free(dup(stop_fd.get()));
  const uint32_t in_use =
      lowest_free.valid() ? static_cast<uint32_t>(lowest_free.get()) : descriptors_max;
  if (in_use + kDescriptorsForRequests >= descriptors_max) {
    return Fail(
        absl::StrCat("the limit of ", descriptors_max,
                     " open files leaves none for nodes; raise it (ulimit -n, LimitNOFILE=) "
                     "or use fewer -workers"));
  }
  Custody custody((*registry)->capacity(), descriptors_max - in_use - kDescriptorsForRequests);
  SourceBound sources;
  std::vector<int> listeners;
  for (const OwnedFd& socket : *sockets) listeners.push_back(socket.get());
  Shared shared(options, **registry, custody, sources, listeners, descriptors_max, RequestStop);

  std::vector<std::unique_ptr<Worker>> workers;
  for (std::unique_ptr<Loop>& loop : *loops) {
    workers.push_back(
        std::make_unique<Worker>(static_cast<uint32_t>(workers.size()), std::move(loop), shared));
  }
  // The sockets listen: whoever connects from here on is served.
  on_ready();
  Log(Severity::kNotice, "serves port %d with %d workers through %s; registry %s", options.port,
      workers.size(), loop_reason, (*registry)->path());
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Worker>& worker : workers) {
    threads.emplace_back([&worker] { worker->Serve(); });
  }
  sd_notify(0, "READY=1");

  AwaitStop(signal_fd.get(), stop_fd.get());
  sd_notify(0, "STOPPING=1");
  shared.stopping.Notify();
  for (const std::unique_ptr<Worker>& worker : workers) worker->Wake();
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace evermap
