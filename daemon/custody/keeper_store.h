// Our keeper as the store (process/keeper.h): it starts the next mapper with all that it holds. It
// ends with the mapper that ends by itself, and when it dies the mapper starts another keeper.
#ifndef EVERMAP_DAEMON_CUSTODY_KEEPER_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_KEEPER_STORE_H_

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "daemon/custody/notified_store.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// What the status of a mapper says of its custody when it has a keeper.
inline constexpr std::string_view kKeeperCustody = "keeper";
// How many ready sets a keeper holds: what goes into a message beside a link.
inline constexpr size_t kReadySetsMax = kNotifyFdsMax - 1;

class KeeperStore final : public NotifiedStore {
 public:
  // A keeper takes a descriptor in a few microseconds, however many it has.
  static constexpr DepositQueue::Pace kPace = {
      .age_ms = 0, .comparisons_per_tick = std::numeric_limits<size_t>::max()};

  // `link` leads to the keeper (NotifyPair()). `program` is the file that this process was started
  // from: the keeper goes on as that program (AnnounceMapper()).
  KeeperStore(OwnedFd link, std::string program);

  std::string_view name() const override { return kKeeperCustody; }
  bool outlives_mapper() const override { return false; }
  DepositQueue::Pace pace() const override { return kPace; }
  int link() const override { return own_link(); }
  const char* link_variable() const override { return variables::kKeeperLink; }
  bool AnnounceMapper() override;
  void HoldReadySets(absl::Span<const int> sets) override;

  // Another keeper is there, which has nothing yet.
  void Reconnect(OwnedFd link) { ReplaceLink(std::move(link)); }

 private:
  const std::string program_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_KEEPER_STORE_H_
