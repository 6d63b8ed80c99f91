#include "daemon/custody/keeper_store.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"

namespace evermap {

KeeperStore::KeeperStore(OwnedFd link, std::string program)
    : NotifiedStore(std::move(link)), program_(std::move(program)) {}

bool KeeperStore::AnnounceMapper() {
  std::string text =
      absl::StrCat(words::kMainPid, "=", getpid(), "\n", words::kReady, "\n", words::kTakesFiles);
  // The keeper needs the name for when this process dies before the keeper has looked what it runs.
  const std::string program = absl::StrCat("\n", words::kProgram, "=", program_);
  if (text.size() + program.size() <= kNotifyTextMax) text += program;
  if (Tell(text)) return true;
  // Either the keeper is dead, and this mapper will start another one, or it has said why it does
  // not listen.
  Notification message;
  return AwaitNotification(own_link(), message, kTellTimeout) != Received::kMessage ||
         message.text != words::kTooLate;
}

void KeeperStore::HoldReadySets(absl::Span<const int> sets) {
  // What is beyond the bound is closed with this process. A keeper that is gone is noticed soon.
  SendNotificationPatiently(own_link(), words::kReadySets, sets.subspan(0, kReadySetsMax),
                            kTellTimeout);
}

}  // namespace evermap
