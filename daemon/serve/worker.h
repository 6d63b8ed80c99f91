// A worker: one thread that accepts connections, and answers the requests on those it accepted.
//
// Workers share listening sockets, registry, custody and the bound of sources, and take no locks
// between them.
//
// Descriptors are the scarce thing, and bounded without a shared counter: the kernel gives the
// lowest free number, so one that is close to the limit says that the table is full. Then
//   - a worker ends the oldest of its unfinished requests, two for each new connection, unless they
//     have only just come, and
//   - no node is registered (Custody::connections_max lies below the limit),
// so there is always a descriptor for a lookup.
#ifndef EVERMAP_DAEMON_SERVE_WORKER_H_
#define EVERMAP_DAEMON_SERVE_WORKER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/command/options.h"
#include "daemon/custody/custody.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "daemon/loop/loop.h"
#include "daemon/names/reservations.h"
#include "daemon/serve/connections.h"
#include "daemon/serve/list_text.h"
#include "daemon/serve/phase.h"
#include "daemon/wire/protocol.h"
#include "registry/base/owned_fd.h"
#include "registry/counters.h"
#include "registry/registry.h"

namespace evermap {

// Descriptors kept back from nodes, so that requests find some.
inline constexpr uint32_t kDescriptorsForRequests = 64;
// Of these, kept back from waiting requests, so that accepting never fails for lack of one.
inline constexpr uint32_t kDescriptorsSpare = 16;
// NAMES and DUMP texts that slow readers keep alive, bytes for each worker.
inline constexpr size_t kSlowTextsSizeMax = size_t{64} << 20;
// A request that makes no progress for less than this is not ended to make room for others: it is
// probably on its way. A few ticks of MonotonicCoarseMs().
inline constexpr int64_t kEvictionAgeMinMs = 12;
// How long who asks for a list waits for those who do not, before the next batch of lists begins.
inline constexpr int64_t kListWaitMs = 4;
// Lists, and bytes of them, that are sent before the worker looks what else has come: with a step
// of making one 30 to 50 us on average, under all attacks of tests/hostile.py.
inline constexpr size_t kListsPerTurn = 8;
inline constexpr size_t kListBytesPerTurn = size_t{64} << 10;
// How long accepting pauses when it failed and nothing can be done about it.
inline constexpr int64_t kAcceptPauseMs = 4;
// How long a worker that pauses for a successor goes on answering what it has accepted; the queue
// of new connections waits meanwhile.
inline constexpr int64_t kPauseDrainMs = 10;
// How long a worker that leaves does. Requests that are not complete by then are closed.
inline constexpr int64_t kLeaveDrainMs = 500;
// How long a worker that leaves waits until its process ends, which closes a descriptor for each
// node: the successor begins to watch the same at that time. With 10,000 nodes on one core requests
// waited for 25 ms, without this for 45.
inline constexpr absl::Duration kSuccessorLead = absl::Milliseconds(200);

class Worker;

// What all workers share. All of it outlives them.
struct Shared {
  Shared(const Options& mapper_options, Registry& open_registry, Custody& node_custody,
         SourceBound& source_bound, const Reservations& reserved_names,
         absl::Span<const int> listening, uint32_t descriptor_limit, void (*stop)(std::string_view))
      : options(mapper_options),
        registry(open_registry),
        custody(node_custody),
        sources(source_bound),
        reservations(reserved_names),
        listeners(listening),
        descriptors_max(descriptor_limit),
        request_stop(stop) {}

  const Options& options;
  Registry& registry;
  Custody& custody;
  SourceBound& sources;
  const Reservations& reservations;
  absl::Span<const int> listeners;
  uint32_t descriptors_max;  // RLIMIT_NOFILE
  // To end the mapper; safe in any thread.
  void (*request_stop)(std::string_view reason);
  PhaseControl phases;
  // Another mapper serves: set before the phase that says to leave.
  std::atomic<bool> has_successor{false};
  // Nothing is delayed any more (Worker::Delay()).
  absl::Notification stopping;
  // All of them, complete before the first serves; each adds itself.
  std::vector<Worker*> workers;
  // Raised by a worker that finds no descriptor and has nothing to evict: the others shall.
  std::atomic<uint32_t> room_requests{0};
  // One limiter for each kind of line.
  LogLimiter log_descriptors;
  LogLimiter log_registry_full;
  LogLimiter log_source;
  LogLimiter log_not_allowed;
  LogLimiter log_reserved;
  LogLimiter log_accept;
  LogLimiter log_slow_reader;
};

class Worker final : private LoopHandler {
 public:
  Worker(uint32_t number, std::unique_ptr<Loop> loop, Shared& shared);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() = default;

  // Serves until shared.phases say to leave; Wake() it after a change of phase. In a thread of its
  // own.
  void Serve();
  // From any thread.
  void Wake() { loop_->Wake(); }
  // Has it look anew for connections that wait to be accepted. From any thread.
  void AcceptAnew() {
    accepts_anew_.store(true, std::memory_order_release);
    Wake();
  }
  // Makes the connection of a registration, which is in custody already, this worker's. From any
  // thread.
  void Give(OwnedFd connection, uint32_t slot, uint64_t registration_id);

 private:
  void OnAccepted(int fd) override;
  // Whether -allow lets the peer in.
  bool IsAllowed(int fd) const;
  void OnAcceptFailed(uint32_t listener, int error) override;
  void OnReceived(uint32_t number, absl::Span<const std::byte> bytes) override;
  void OnWritable(uint32_t number) override;

  // Serving.
  void StartAccepting();
  // Waits for something to happen, at most `timeout_ms` (-1: without end), and deals with it.
  void Turn(int64_t timeout_ms);
  // Accepts nothing more, and answers what was accepted, for at most `drain_ms`.
  void Drain(int64_t drain_ms);
  void TakeGiven();
  void Stop();

  // Reading.
  // Takes what has arrived already: most requests come with their connections.
  void ReceiveFirst(uint32_t number);
  void OnRequestBytes(uint32_t number, absl::Span<const std::byte> bytes);
  // Waits for the rest of a request, as long and as often as one source may.
  void AwaitRequest(uint32_t number);
  // Counts a connection that waits for its peer; false when its source has as many as it may.
  bool EnterSource(uint32_t number);
  void Receive(uint32_t number);

  // Answering. Each ends or passes on the connection.
  void Answer(uint32_t number, absl::Span<const std::byte> body);
  void Answer(uint32_t number, const protocol::Alive2Request& request);
  void Answer(uint32_t number, const protocol::Port2Request& request);
  void Answer(uint32_t number, const protocol::NamesRequest& request);
  void Answer(uint32_t number, const protocol::DumpRequest& request);
  void Answer(uint32_t number, const protocol::KillRequest& request);
  void Answer(uint32_t number, const protocol::StopRequest& request);
  // Of a request whose first bytes were looked at then, MonotonicNs().
  void CountLatency(int64_t begin_ns);
  // Whether the peer may have the name; says who tried when it may not.
  bool MayHave(int fd, std::string_view name);
  RegisterResult Register(const NodeRecord& node);
  // Lets a node that comes back have its orphaned registration, which is in found_, or ends it when
  // its node is gone. True when `result` is final.
  bool SettleOrphan(const NodeRecord& node, RegisterResult& result);
  // Whether registration `id` holds its name; it is then in found_.
  bool IsHeld(uint32_t slot, uint64_t id);
  void Refuse(uint32_t number, const protocol::Alive2Request& request);
  // NAMES and DUMP take longest, by far with many nodes, and are answered when nothing else is to
  // be done. A lookup waits for no more than the last step of making one text and the first of the
  // other, and for kListsPerTurn of them to be sent, or one that is longer than kListBytesPerTurn.
  void AnswerLater(uint32_t number, List list);
  bool AreListsDue(int64_t now_ms) const;
  // Some of the batch that is under way, or of a new one: all who wait now.
  void AnswerLists();
  // As many of these as go in one turn.
  void SendLists();
  // Takes a step towards batch_texts_; true when the text is there.
  bool MakeText(List list);
  // Counts the text against kSlowTextsSizeMax for as long as somebody has it.
  SharedText KeepText(std::string text);
  void MakeRoomForText();

  // Writing.
  void SendAndClose(uint32_t number, absl::Span<const std::byte> reply);
  void SendAndClose(uint32_t number, std::string_view reply);
  void SendTextAndClose(uint32_t number, SharedText text);
  void SendRest(uint32_t number);

  // Ending.
  void CloseMalformed(uint32_t number);
  void Close(uint32_t number);
  // Closes now, or when the pending operation completes.
  void Abort(uint32_t number);
  void EndNode(uint32_t number);
  // Of a request that did not come, or a reply that was not taken, in time. A request that has
  // arrived but was not looked at yet is still answered: the process, or its host, may have stood
  // still.
  void EndUnfinished(uint32_t number);
  // Ends the `count` oldest of these, or as many as are old enough, and returns how many.
  uint32_t Evict(uint32_t count);
  void AskForRoom();
  void MakeRoomForOthers();
  void EndOverdue(int64_t now_ms);

  int RunTimeoutMs(int64_t timeout_ms);
  void ResumeAccepting(int64_t now_ms);
  bool IsDescriptorTableFull(int fd) const;
  // Waits, but not longer than the mapper is to live.
  void Delay(absl::Duration duration);

  const std::unique_ptr<Loop> loop_;
  Shared& shared_;
  Registry& registry_;
  WorkerStatistics& statistics_;
  Connections connections_;
  const int64_t packet_timeout_ms_;

  std::vector<uint32_t> paused_listeners_;
  int64_t resume_accepting_ms_ = 0;
  // When this turn's first bytes of a request were looked at; 0: there were none yet.
  int64_t turn_bytes_ns_ = 0;
  uint32_t room_requests_seen_ = 0;

  struct WantedList {
    uint32_t connection;
    List list;
    int64_t begin_ns;
  };
  std::vector<WantedList> wanted_lists_;  // keeps its memory, as nothing is allocated for a request
  size_t lists_in_batch_ = 0;             // the first of these share batch_texts_
  std::array<SharedText, 2> batch_texts_;  // by List
  std::unique_ptr<ListMaker> list_maker_;  // of the next of them; nullptr: none is being made
  // Who asked for these has one of the last descriptors: all are answered at once.
  bool lists_are_urgent_ = false;
  SharedText names_text_;
  uint64_t names_generation_ = 0;
  // Shared with the texts, which take themselves off it.
  std::shared_ptr<size_t> texts_size_ = std::make_shared<size_t>(0);

  struct Given {
    OwnedFd connection;
    uint32_t slot;
    uint64_t registration_id;
  };
  std::mutex given_mutex_;
  std::vector<Given> given_;  // under given_mutex_
  std::atomic<bool> is_given_{false};
  std::atomic<bool> accepts_anew_{false};

  SocketQuery socket_query_;
  Registration found_ = {};
  std::array<std::byte, kReceiveSizeMax> first_bytes_;
  // An incomplete request and what follows it.
  std::array<std::byte, protocol::kFrameSizeMax + kReceiveSizeMax> joined_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_WORKER_H_
