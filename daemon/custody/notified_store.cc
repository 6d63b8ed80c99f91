#include "daemon/custody/notified_store.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"

namespace evermap {
namespace {

// The name is for systemd, and for people who look at its store.
std::string StoreMessage() { return absl::StrCat(words::kStore, "\n", words::kStoreName); }

}  // namespace

NotifiedStore::NotifiedStore(OwnedFd link) : link_(std::move(link)) { assert(link_.valid()); }

bool NotifiedStore::HoldFiles(absl::Span<const Claim::File> files,
                              absl::Span<const std::string> outdated) {
  for (const Claim::File& file : files) {
    const std::string text = absl::StrCat(words::kStore, "\n", words::kFileName, "=", file.name);
    if (SendNotificationPatiently(link_.get(), text, absl::MakeConstSpan(&file.fd, 1),
                                  kTellTimeout) != 0) {
      return false;
    }
  }
  for (const std::string& name : outdated) Forget(name);
  return true;
}

void NotifiedStore::ForgetFiles(absl::Span<const Claim::File> files) {
  for (const Claim::File& file : files) Forget(file.name);
}

void NotifiedStore::Forget(const std::string& name) {
  Tell(absl::StrCat(words::kForget, "\n", words::kFileName, "=", name));
}

void NotifiedStore::Put(OwnedFd fd) {
  assert(fd.valid());
  waiting_.push_back(std::move(fd));
}

bool NotifiedStore::Flush() {
  const std::string message = StoreMessage();
  size_t sent = 0;
  int error = 0;
  while (sent < waiting_.size() && error == 0) {
    std::array<int, kNotifyFdsMax> fds;
    const size_t count = std::min(waiting_.size() - sent, fds.size());
    for (size_t i = 0; i < count; ++i) fds[i] = waiting_[sent + i].get();
    error = SendNotification(link_.get(), message, absl::MakeConstSpan(fds.data(), count));
    if (error == 0) sent += count;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
  // Too many descriptors in flight (ETOOMANYREFS) pass as a full queue does.
  return error == 0 || error == EAGAIN || error == ETOOMANYREFS || error == ENOBUFS ||
         error == ENOMEM;
}

void NotifiedStore::AnnounceStopping() {
  // A store that is gone has no mapper to start either.
  Tell(words::kStopping);
}

bool NotifiedStore::Tell(std::string_view text) {
  return SendNotificationPatiently(link_.get(), text, {}, kTellTimeout) == 0;
}

void NotifiedStore::ReplaceLink(OwnedFd link) {
  assert(link.valid());
  link_ = std::move(link);
  waiting_.clear();
}

}  // namespace evermap
