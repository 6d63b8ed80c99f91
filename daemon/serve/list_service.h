// The service of lists: NAMES and DUMP, which take longest, by far with many nodes, are answered in
// batches when nothing else is to be done.
//
// A batch is what waits when it begins; all requests of a batch share one text of each kind. A
// lookup waits for no more than the last step of making one text and the first of the other, and
// for kListsPerTurn of them to be sent, or one that is longer than kListBytesPerTurn.
//
// Thread safety: a ListService belongs to one worker.
#ifndef EVERMAP_DAEMON_SERVE_LIST_SERVICE_H_
#define EVERMAP_DAEMON_SERVE_LIST_SERVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/serve/connections.h"
#include "daemon/serve/eviction.h"
#include "daemon/serve/exchange.h"
#include "daemon/serve/kept_texts.h"
#include "daemon/serve/list_text.h"
#include "daemon/serve/shared.h"
#include "registry/counters.h"

namespace evermap {

// Longest time that requests for NAMES or DUMP wait while shorter requests are served first.
inline constexpr int64_t kListWaitMs = 4;
// Lists, and bytes of lists, sent in one turn before other connections are served again (30 to 50
// us together with a step of making one, under all attacks of tests/trust/hostile.py).
inline constexpr size_t kListsPerTurn = 8;
inline constexpr size_t kListBytesPerTurn = size_t{64} << 10;

class ListService {
 public:
  ListService(Shared& shared, Exchange& exchange, Eviction& eviction, WorkerStatistics& statistics)
      : shared_(shared), exchange_(exchange), eviction_(eviction), statistics_(statistics) {}

  // Answers the request on `connection`, whose first bytes were read at `begin_ns`, later.
  void Add(uint32_t connection, List list, int64_t begin_ns);
  bool has_waiting() const { return !waiting_.empty(); }
  // Whether lists are sent now, though other requests come without a pause.
  // REQUIRES: has_waiting().
  bool IsDue(int64_t now_ms) const;
  // Answers some of the batch that is under way, or else of a new one.
  void AnswerSome();
  // Has everything that waits answered by the next AnswerSome(): its descriptors are wanted, since
  // none of these requests can be evicted.
  void Hurry() { is_urgent_ = has_waiting(); }

 private:
  struct Waiting {
    uint32_t connection;
    List list;
    int64_t begin_ns;
  };

  // Sends as many lists of the batch as go in one turn.
  void SendSome();
  // Takes a step towards the text of `list`; true when batch_texts_ has it.
  bool MakeText(List list);

  Shared& shared_;
  Exchange& exchange_;
  Eviction& eviction_;
  WorkerStatistics& statistics_;

  std::vector<Waiting> waiting_;  // keeps its memory, as nothing is allocated for a request
  size_t in_batch_ = 0;           // the first of these are the batch
  std::array<SharedText, 2> batch_texts_;  // by List
  std::unique_ptr<ListMaker> maker_;       // of the next of them; nullptr: none is being made
  bool is_urgent_ = false;
  // The last text of NAMES and the registry's generation when it was begun.
  SharedText names_text_;
  uint64_t names_generation_ = 0;
  KeptTexts kept_texts_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_LIST_SERVICE_H_
