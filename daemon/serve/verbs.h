// What is answered to each request. A Verbs turns a decoded request into a Reply: the bytes to send
// and what is to become of the connection then. It does no I/O on the connection, so a test needs
// no socket to try one; it asks the kernel only who the peer is.
//
//   Verbs verbs(shared, registrar, access, statistics);
//   const Reply reply = verbs.Answer({.fd = fd}, *protocol::DecodeRequest(body));
//   ... send reply.bytes, then do what reply.then says ...
//
// A new request is a row of kVerbs (verb_table.h) and a member Decide() here.
//
// Thread safety: a Verbs belongs to one worker.
// Nothing is allocated for an answer unless it is logged.
#ifndef EVERMAP_DAEMON_SERVE_VERBS_H_
#define EVERMAP_DAEMON_SERVE_VERBS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "daemon/names/disputes.h"
#include "daemon/names/registrar.h"
#include "daemon/serve/access.h"
#include "daemon/serve/list_text.h"
#include "daemon/serve/postponed.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/verb_table.h"
#include "daemon/wire/protocol.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

// The connection a request came on.
struct Requester {
  int fd = -1;
  // Its read side is shut down: the request was already in the kernel when its time ran out or its
  // descriptor was wanted for another connection.
  bool is_draining = false;
  // Of a request that was put off: what is known of it by now.
  Dispute dispute = {};
  // The mapper is about to leave: the request may not be put off for another's name once more.
  bool is_last_time = false;
};

struct Reply {
  enum class Then : uint8_t {
    kClose,       // close the connection, after sending `bytes` if there are any
    kKeepNode,    // the connection keeps `registration` alive from now on; send `bytes`
    kListLater,   // NAMES or DUMP: `list` is sent when nothing else is to be done
    kAskLater,    // Answer() the same request again, with `dispute`, when what `wait` says has come
                  // about; the name is held by `registration`
    kStopMapper,  // send `bytes`, close the connection, and end the mapper for `stop_reason`
  };
  Then then = Then::kClose;
  absl::Span<const std::byte> bytes = {};  // valid until the next answer
  RegistrationRef registration = {};       // kKeepNode, kAskLater
  List list = List::kNames;
  std::string_view stop_reason = {};
  Wait wait = Wait::kConnection;  // kAskLater
  Dispute dispute = {};           // kAskLater
};

class Verbs {
 public:
  // All but the reply's bytes are others', and outlive this.
  // `wake_worker` is called, from any thread, when the worker is to look at what was put off.
  Verbs(Shared& shared, Registrar& registrar, Access& access, WorkerStatistics& statistics,
        std::function<void()> wake_worker)
      : shared_(shared),
        registrar_(registrar),
        access_(access),
        statistics_(statistics),
        wake_worker_(std::move(wake_worker)) {}

  Reply Answer(const Requester& requester, const protocol::Request& request);
  // For bytes that are no request: nothing is sent.
  Reply AnswerMalformed(const Requester& requester);

 private:
  Reply Decide(const Requester& requester, const protocol::Alive2Request& request);
  Reply Decide(const Requester& requester, const protocol::Port2Request& request);
  Reply Decide(const Requester& requester, const protocol::NamesRequest& request);
  Reply Decide(const Requester& requester, const protocol::DumpRequest& request);
  Reply Decide(const Requester& requester, const protocol::KillRequest& request);
  Reply Decide(const Requester& requester, const protocol::StopRequest& request);

  bool MayAsk(const Requester& requester, const protocol::Request& request);
  // For a peer that may not ask: nothing is sent, but to a node of this host, which is told that it
  // is not registered. It would take a connection that is closed for a mapper that has ended.
  Reply AnswerNotAllowed(const Requester& requester, const protocol::Request& request);
  Reply Refuse(const protocol::NodeDescription& node);
  // As Refuse(), for who has been counted already.
  Reply RefusalReply(const protocol::NodeDescription& node);
  // Puts a request off whose name another node holds, if there is something to wait for.
  std::optional<Reply> PutOff(const Requester& requester, const Decision& decision,
                              const protocol::NodeDescription& node);
  // Counts and logs why the name was refused.
  void RecordRefusal(const Requester& requester, const Decision& decision, std::string_view name);
  // The same for a name that another node holds.
  void RecordTaken(const Requester& requester, std::string_view name);

  Shared& shared_;
  Registrar& registrar_;
  Access& access_;
  WorkerStatistics& statistics_;
  const std::function<void()> wake_worker_;
  std::array<std::byte, protocol::kPort2ReplySizeMax> reply_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_VERBS_H_
