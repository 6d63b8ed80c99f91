// What the keeper's store and systemd's have in common: a link through which they are told of
// descriptors and states (notify.h), and the descriptors that have not gone through it yet.
//
// Thread safety: belongs to the main thread.
// Bounds: a message has at most kNotifyFdsMax descriptors; Deposits bounds how many wait.
#ifndef EVERMAP_DAEMON_CUSTODY_NOTIFIED_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_NOTIFIED_STORE_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "daemon/custody/store.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class NotifiedStore : public Store {
 public:
  bool HoldFiles(absl::Span<const Claim::File> files,
                 absl::Span<const std::string> outdated) override;
  void ForgetFiles(absl::Span<const Claim::File> files) override;
  void Put(OwnedFd fd) override;
  bool Flush() override;
  size_t waiting() const override { return waiting_.size(); }
  void AnnounceStopping() override;

 protected:
  explicit NotifiedStore(OwnedFd link);

  // Tells the store something, for instance "READY=1"; waits for room at most kTellTimeout. False
  // when the store is gone, or does not read.
  bool Tell(std::string_view text);
  int own_link() const { return link_.get(); }
  // From now on another process is told. Nothing of what was Put() waits any more.
  void ReplaceLink(OwnedFd link);

 private:
  // A store that is gone holds nothing.
  void Forget(const std::string& name);

  OwnedFd link_;
  std::vector<OwnedFd> waiting_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_NOTIFIED_STORE_H_
