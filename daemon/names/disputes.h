// Disputes: requests for a name that another node holds, and what is found out about them before they
// are refused.
//
// Who holds a name and who asks for it, the kernel and /proc know. To ask them takes time, and a worker
// serves everybody, so the main thread asks, which serves nobody. A worker puts the request into a
// place here, goes on with other requests, and takes it up again when the main thread has looked:
//
//   dispute.place = disputes.Ask({.fd = fd, .port = port, .name = name, .holder = holder, ...});
//   ... the worker postpones the request (serve/postponed.h) ...
//   disputes.Settle(registry, custody, query);           // the main thread, which was woken
//   if (disputes.HasLooked(dispute.place)) ... decide anew; refuse with TextOf(dispute.place) ...
//   disputes.Release(dispute);
//
// A holder whose node is proved to be gone loses the name in that look: a node lives as long as its
// distribution socket (orphans.h), also where its connection stays open since a child of the node has
// inherited it. The proof is the kernel's word that the socket with the recorded cookie is gone, and
// that no other socket of the node's user listens on its port, but for the one who asks.
//
// Thread safety: Ask(), HasLooked(), TextOf(), Release(), Enter() from any worker; Settle() from the
// main thread. A place belongs to the worker that has taken it, but while it is kLooking to the main
// thread; its state says which (invariant), and the worker does not close the connection meanwhile.
// Bounds: kPlaces requests at a time, of which kWaitersMax may wait for the end of the holder
// (-name_wait). One that finds no place is refused at once, with less to say in the log.
#ifndef EVERMAP_DAEMON_NAMES_DISPUTES_H_
#define EVERMAP_DAEMON_NAMES_DISPUTES_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "daemon/custody/custody.h"
#include "daemon/host/keyed_limiter.h"
#include "daemon/host/sock_diag.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

// What a worker knows of a request that is in dispute.
struct Dispute {
  static constexpr int kNoPlace = -1;
  int place = kNoPlace;
  bool was_asked = false;   // a place was asked for, whether there was one or not
  bool is_waiter = false;   // is one of kWaitersMax
  int64_t wait_end_ms = 0;  // of a waiter, MonotonicCoarseMs()
};

class Disputes {
 public:
  static constexpr size_t kPlaces = 128;
  static constexpr uint32_t kWaitersMax = 64;

  struct Question {
    int fd = -1;  // of who asks; stays open until the place is released
    uint16_t port = 0;
    std::string_view name = {};
    RegistrationRef holder = {};
    // Wakes the worker when its question is answered; outlives this.
    const std::function<void()>* wake_worker = nullptr;
  };

  // Those who ask wake the main thread by this descriptor. -1: nobody settles anything, and every Ask()
  // is in vain.
  void SetWakeFd(int wake_fd) { wake_fd_ = wake_fd; }

  // The place of the question; kNoPlace when all are taken.
  int Ask(const Question& question);
  bool HasLooked(int place) const;
  // Who holds the name and who has asked for it. REQUIRES: HasLooked(place).
  const std::string& TextOf(int place) const;
  // Makes the request a waiter; false when there are kWaitersMax.
  bool Enter(Dispute& dispute);
  // Gives back what the request has. REQUIRES: its place is not being looked at.
  void Release(const Dispute& dispute);
  // Whether the main thread is not in the middle of a look at that place; then it never will be, and
  // Release() may be called.
  bool Withdraw(int place);

  // Answers the questions that were asked. `statistics` counts names that became free.
  void Settle(Registry& registry, const Custody& custody, SocketQuery& query);

  // One line a minute for each name that is refused, whichever worker writes it.
  KeyedLimiter& limiter() { return limiter_; }

 private:
  enum class State : uint8_t {
    kFree,
    kTaken,  // by a worker, which fills it in, or has withdrawn it
    kAsked,  // the main thread is to look
    kLooking,
    kLooked,
  };
  struct Place {
    std::atomic<State> state{State::kFree};
    int fd = -1;
    uint16_t port = 0;
    std::string name;
    RegistrationRef holder;
    const std::function<void()>* wake_worker = nullptr;
    std::string text;
  };

  void Look(Place& place, Registry& registry, const Custody& custody, SocketQuery& query);

  int wake_fd_ = -1;
  std::array<Place, kPlaces> places_;
  std::atomic<uint32_t> waiters_{0};
  KeyedLimiter limiter_;
  int64_t next_search_ms_ = 0;  // for processes; the main thread's
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_DISPUTES_H_
