// No store: a mapper with neither a keeper (-no_keeper) nor systemd. Its connections end with it.
#ifndef EVERMAP_DAEMON_CUSTODY_NO_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_NO_STORE_H_

#include <cstddef>
#include <string_view>

#include "daemon/custody/store.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class NoStore final : public Store {
 public:
  std::string_view name() const override { return "none"; }
  bool holds() const override { return false; }
  bool outlives_mapper() const override { return false; }
  DepositQueue::Pace pace() const override { return {}; }
  bool HoldFiles(absl::Span<const Claim::File>, absl::Span<const std::string>) override {
    return true;
  }
  void ForgetFiles(absl::Span<const Claim::File>) override {}
  // Closes `fd`.
  void Put(OwnedFd fd) override;
  bool Flush() override { return true; }
  size_t waiting() const override { return 0; }
  bool AnnounceMapper() override { return true; }
  void AnnounceStopping() override {}
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_NO_STORE_H_
