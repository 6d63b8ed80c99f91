#include "daemon/names/disputes.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "daemon/host/socket_owner.h"
#include "daemon/host/user.h"
#include "daemon/host/wake_fd.h"
#include "registry/base/clock.h"
#include "registry/counters.h"

namespace evermap {
namespace {

// How long it is looked for the process of a holder, and how often at most: the main thread is away
// for no more than a hundredth of its time.
constexpr absl::Duration kSearchBudget = absl::Milliseconds(50);
constexpr int64_t kSearchIntervalMs = 5000;

// The socket on which the holder's node listens, if that is still there; nothing, with `is_proof`,
// when the kernel says that it is gone.
std::optional<TcpListener> ListenerOf(const Registration& holder, int fd, uint16_t asking_port,
                                      SocketQuery& query, bool& is_proof) {
  is_proof = false;
  if (holder.listener_cookie == 0) return std::nullopt;
  const auto is_its = [&holder](const TcpListener& socket) {
    return socket.cookie == holder.listener_cookie;
  };
  // Most nodes listen on all addresses, or on the one from which others of this host register.
  const std::optional<TcpListener> near = query.ListenerFor(PeerAddress(fd), holder.port);
  if (near.has_value() && is_its(*near)) return near;
  const absl::StatusOr<std::vector<TcpListener>> all = query.ListenersOn(holder.port);
  if (!all.ok()) return std::nullopt;
  const auto found = std::find_if(all->begin(), all->end(), is_its);
  if (found != all->end()) return *found;
  const bool is_askers_port = asking_port == holder.port;
  is_proof = std::none_of(all->begin(), all->end(), [&](const TcpListener& socket) {
    const bool may_be_nodes = socket.uid == kUnknownUid || holder.owner_uid == kUnknownUid ||
                              socket.uid == holder.owner_uid;
    return socket.cookie == 0 || (may_be_nodes && !is_askers_port);
  });
  return std::nullopt;
}

std::string ClockText(int64_t unix_ns) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixNanos(unix_ns), absl::LocalTimeZone());
}

std::string HolderText(const Registration& holder, std::optional<pid_t> pid) {
  const bool is_orphan = holder.state == RegistrationState::kOrphaned;
  return absl::StrCat("it is held by ", UserText(holder.owner_uid),
                      pid.has_value() ? absl::StrCat(", process ", *pid) : "", ", at port ",
                      holder.port, " since ", ClockText(holder.since_unix_ns),
                      is_orphan ? ", without a connection (orphaned) since " : ", connected",
                      is_orphan ? ClockText(holder.left_unix_ns) : "");
}

}  // namespace

int Disputes::Ask(const Question& question) {
  if (wake_fd_ < 0) return Dispute::kNoPlace;
  for (size_t number = 0; number < kPlaces; ++number) {
    Place& place = places_[number];
    State free = State::kFree;
    if (place.state.load(std::memory_order_relaxed) != State::kFree ||
        !place.state.compare_exchange_strong(free, State::kTaken, std::memory_order_acquire)) {
      continue;
    }
    place.fd = question.fd;
    place.port = question.port;
    place.name = question.name;
    place.holder = question.holder;
    place.wake_worker = question.wake_worker;
    place.text.clear();
    place.state.store(State::kAsked, std::memory_order_release);
    Wake(wake_fd_);
    return static_cast<int>(number);
  }
  return Dispute::kNoPlace;
}

bool Disputes::HasLooked(int place) const {
  return places_[static_cast<size_t>(place)].state.load(std::memory_order_acquire) ==
         State::kLooked;
}

const std::string& Disputes::TextOf(int place) const {
  assert(HasLooked(place));
  return places_[static_cast<size_t>(place)].text;
}

bool Disputes::Enter(Dispute& dispute) {
  if (dispute.is_waiter) return true;
  if (waiters_.fetch_add(1, std::memory_order_relaxed) >= kWaitersMax) {
    waiters_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  dispute.is_waiter = true;
  return true;
}

bool Disputes::Withdraw(int place) {
  std::atomic<State>& state = places_[static_cast<size_t>(place)].state;
  State asked = State::kAsked;
  state.compare_exchange_strong(asked, State::kTaken, std::memory_order_acquire);
  return state.load(std::memory_order_acquire) != State::kLooking;
}

void Disputes::Release(const Dispute& dispute) {
  if (dispute.is_waiter) waiters_.fetch_sub(1, std::memory_order_relaxed);
  if (dispute.place == Dispute::kNoPlace) return;
  std::atomic<State>& state = places_[static_cast<size_t>(dispute.place)].state;
  assert(state.load(std::memory_order_relaxed) != State::kLooking);
  state.store(State::kFree, std::memory_order_release);
}

void Disputes::Settle(Registry& registry, const Custody& custody, SocketQuery& query) {
  for (Place& place : places_) {
    State asked = State::kAsked;
    if (place.state.load(std::memory_order_relaxed) != State::kAsked ||
        !place.state.compare_exchange_strong(asked, State::kLooking, std::memory_order_acquire)) {
      continue;
    }
    Look(place, registry, custody, query);
    const std::function<void()>* const wake_worker = place.wake_worker;
    place.state.store(State::kLooked, std::memory_order_release);
    (*wake_worker)();
  }
}

void Disputes::Look(Place& place, Registry& registry, const Custody& custody, SocketQuery& query) {
  // Of a name that is asked for again and again nothing is told, and so nothing need be known.
  const bool is_told = limiter_.WouldAllow(place.name);
  if (is_told) {
    place.text = absl::StrCat("asked for by ", UserText(query.PeerUid(place.fd)), " from ",
                              AddressText(PeerAddress(place.fd)));
  }
  Registration holder;
  if (!registry.ReadSlot(place.holder.slot, holder) || holder.id != place.holder.id ||
      holder.state == RegistrationState::kRemembered) {
    return;
  }
  bool is_proof = false;
  const auto listener = ListenerOf(holder, place.fd, place.port, query, is_proof);
  // What is an orphan is judged by the registrar.
  if (is_proof && holder.state == RegistrationState::kLive && !custody.MayCome(holder)) {
    if (!registry.Unregister(holder.slot, holder.id)) return;
    custody.Shutdown(holder);
    Count(registry.statistics(0).holders_found_gone);
    Log(Severity::kNotice,
        "node %s is unregistered, since another one asks for its name: nobody listens on its port "
        "%d "
        "any more, though its connection is kept open",
        Escaped(place.name), holder.port);
    return;
  }
  if (!is_told) return;
  std::optional<pid_t> pid;
  const int64_t now_ms = MonotonicCoarseMs();
  if (listener.has_value() && now_ms >= next_search_ms_) {
    next_search_ms_ = now_ms + kSearchIntervalMs;
    pid = ProcessOfSocket(listener->inode, kSearchBudget);
  }
  place.text = absl::StrCat(HolderText(holder, pid), "; ", place.text);
}

}  // namespace evermap
