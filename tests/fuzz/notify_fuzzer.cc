// A successor gets any messages, with any descriptors beside them, before and after it has taken
// over; and a process that starts gets any variables that say what was passed to it. No descriptor
// may be lost or closed twice.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/process/inheritance.h"
#include "daemon/process/successor.h"
#include "registry/base/owned_fd.h"
#include "tests/fuzz/input.h"

namespace evermap {
namespace {

int OpenDescriptors() {
  int count = 0;
  DIR* directory = opendir("/proc/self/fd");
  Require(directory != nullptr);
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

int SomeDescriptor(uint8_t kind) {
  switch (kind % 4) {
    case 0:
      return open("/dev/null", O_RDONLY | O_CLOEXEC);
    case 1:
      return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 2:
      return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    default: {
      const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd >= 0) listen(fd, 1);
      return fd;
    }
  }
}

std::string TextOf(Input& input) {
  switch (const uint8_t kind = input.Take<uint8_t>(); kind % 8) {
    case 0:
      return words::kStore;
    case 1:
      return words::kYours;
    case 2:
      return words::kServing;
    case 3:
      return absl::StrCat(words::kReady, "\n", words::kMainPid, "=1");
    default:
      return std::string(
          input.Take(input.Take<uint16_t>() % (kNotifyTextMax + 16)));  // too long as well
  }
}

void TryMessages(Input& input) {
  auto ends = NotifyPair();
  Require(ends.ok());
  const int peer = ends->second.get();
  const bool takes_over = input.Take<uint8_t>() % 2 == 0;
  for (int i = 0; i < 6 && !input.empty(); ++i) {
    const std::string text = TextOf(input);
    std::vector<OwnedFd> owned;
    std::vector<int> fds;
    for (int n = input.Take<uint8_t>() % 4; n > 0; --n) {
      owned.emplace_back(SomeDescriptor(input.Take<uint8_t>()));
      fds.push_back(owned.back().get());
    }
    if (text.size() > kNotifyTextMax) {
      // None of our processes sends such a message; the receiver gets what it has room for.
      send(peer, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } else if (!text.empty()) {
      SendNotification(peer, text, fds);
    }
  }
  Successor successor(std::move(ends->first));
  ends->second = OwnedFd();
  if (takes_over) {
    (void)successor.ReceiveConnections();
  } else {
    while (successor.TakeLate([](OwnedFd fd) { (void)KindOfSocket(fd.get()); })) {
    }
  }
  Notification message;
  message.text = std::string(input.TakeRest());
  for (const char* key : {words::kMainPid, words::kProgram, words::kFailure, ""}) {
    (void)message.Get(key);
  }
  for (const char* word : {words::kStore, words::kReady, words::kTooLate}) (void)message.Says(word);
}

void TryInheritance(Input& input) {
  // sd_listen_fds(3) counts from number 3.
  const int count = input.Take<uint8_t>() % 4;
  std::vector<int> moved;
  for (int fd = 3; fd < 3 + count; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) return;  // in use by the fuzzer itself
  }
  for (int fd = 3; fd < 3 + count; ++fd) {
    const int made = SomeDescriptor(input.Take<uint8_t>());
    if (made != fd) {
      dup2(made, fd);
      close(made);
    }
  }
  setenv(variables::kListenPid, absl::StrCat(getpid()).c_str(), 1);
  setenv(variables::kListenFds, absl::StrCat(count).c_str(), 1);
  for (const char* name : {variables::kKeeperLink, variables::kPredecessorLink,
                           variables::kMapperLink, variables::kMapperPid}) {
    std::string value(input.Take(input.Take<uint8_t>() % 12));
    value.resize(std::min(value.size(), value.find('\0')));
    setenv(name, value.c_str(), 1);
  }
  (void)TakeInheritance();
}

}  // namespace
}  // namespace evermap

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  evermap::Input input(data, size);
  const int before = evermap::OpenDescriptors();
  if (input.Take<uint8_t>() % 4 == 0) {
    evermap::TryInheritance(input);
  } else {
    evermap::TryMessages(input);
  }
  evermap::Require(evermap::OpenDescriptors() == before);
  return 0;
}
