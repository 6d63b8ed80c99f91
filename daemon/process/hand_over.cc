#include "daemon/process/hand_over.h"

#include <cerrno>
#include <utility>

#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/process/fault_point.h"

namespace evermap {

void HandOver::Begin(OwnedFd link, std::vector<int> connections, std::vector<OwnedFd> ready_sets) {
  link_ = std::move(link);
  connections_ = std::move(connections);
  ready_sets_ = std::move(ready_sets);
  is_full_ = false;
}

void HandOver::End() {
  link_ = OwnedFd();
  connections_ = {};
  ready_sets_.clear();
}

void HandOver::Continue(absl::FunctionRef<bool(int connection)> is_held) {
  is_full_ = false;
  for (size_t i = 0; i < kMessagesPerTurn && link_.valid(); ++i) {
    std::vector<int> message;
    size_t left = connections_.size();
    while (left > 0 && message.size() < kNotifyFdsMax) {
      const int connection = connections_[--left];
      if (is_held(connection)) message.push_back(connection);
    }
    const bool are_all = message.empty();
    if (are_all) {
      for (const OwnedFd& set : ready_sets_) message.push_back(set.get());
    }
    const int error =
        SendNotification(link_.get(), are_all ? words::kYours : words::kStore, message);
    if (error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ETOOMANYREFS) {
      is_full_ = true;
      return;
    }
    connections_.resize(left);
    // A mapper that is gone needs nothing.
    if (are_all || error != 0) End();
    FaultPoint("keeper:handing");
  }
}

}  // namespace evermap
