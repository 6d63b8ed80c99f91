// When there is something new in a registry: told by the mapper that serves it (registry/watch.h), or,
// where that is not to be had, found out by looking again and again.
//
//   News news(registry.path(), absl::Milliseconds(100));
//   while (true) {
//     ... look at the registry ...
//     const Pause::Event event = news.Await(pause, seen);
//     if (event.kind is none of kTime and kReadable) break;
//   }
//
// Thread safety: one object in a process of one thread.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_NEWS_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_NEWS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "registry/base/owned_fd.h"
#include "registry/watch.h"
#include "tools/epmdctl/view/pause.h"

namespace evermap {

class News {
 public:
  // What the last look has found out.
  struct Seen {
    bool is_readable = false;    // there is a registry
    bool tells_changes = false;  // and its mapper touches it after each change
    uint32_t pid = 0;            // of the mapper; 0: none runs
  };

  // From here on nothing is missed. `interval`: between two looks where nobody tells. Says so, once, on
  // standard error.
  News(const std::string& path, absl::Duration interval);

  // Waits until another look is due, or something else has happened (pause.h).
  Pause::Event Await(Pause& pause, const Seen& seen);

 private:
  // How long to wait at most: without end where all that may happen is told.
  absl::Duration PauseMax(const Seen& seen);
  void SayPolls(const std::string& why);

  const absl::Duration interval_;
  std::string problem_ = {};  // why there is no watch
  std::unique_ptr<RegistryWatch> watch_;
  bool has_said_ = false;
  uint32_t pid_ = 0;  // whose end mapper_ tells
  // A mapper that has not said that it tells of changes, and when that was seen first.
  uint32_t silent_pid_ = 0;
  absl::Time silent_since_;
  OwnedFd mapper_;  // readable when that mapper has ended
};

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_NEWS_H_
