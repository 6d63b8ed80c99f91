// Pauses between two looks at a registry. Signals, keys, the loss of the reader of standard output, and
// descriptors that the caller names end a pause early.
//
//   Pause pause({SIGINT, SIGTERM}, Pause::Keys::kIgnored);
//   while (pause.For(absl::Milliseconds(100)).kind == Pause::Event::kTime) Look();
//
// Thread safety: one object in a process of one thread.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_PAUSE_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_PAUSE_H_

#include <cstdint>
#include <initializer_list>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class Pause {
 public:
  enum class Keys : uint8_t { kIgnored, kRead };  // of standard input
  struct Event {
    enum Kind : uint8_t {
      kTime,      // the pause is over
      kSignal,    // `value` is its number
      kKey,       // `value` is the character; -1: standard input has ended
      kNoReader,  // nothing reads standard output any more
      kReadable,  // a descriptor of the caller's is
    };
    Kind kind = kTime;
    int value = 0;
  };

  // From now on the signals come as events only. SIGPIPE does not come at all: a write fails
  // instead.
  Pause(std::initializer_list<int> signals, Keys keys);

  // Waits for the first event, at most `duration`.
  Event For(absl::Duration duration);
  // Waits for the first event, until `deadline` (SteadyNow()) at the latest, and for one of `descriptors` to be
  // readable; those below 0 are left out.
  Event Until(absl::Time deadline, absl::Span<const int> descriptors = {});

 private:
  const Keys keys_;
  OwnedFd signals_;
};

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_PAUSE_H_
