// The kinds of loops, and the word of `-loop` for each.
//
// A new kind is a value and a row here, a file that defines it, and a case of CreateLoop()
// (create_loop.h).
//
// Thread safety: constants.
#ifndef EVERMAP_DAEMON_LOOP_LOOP_KIND_H_
#define EVERMAP_DAEMON_LOOP_LOOP_KIND_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evermap {

enum class LoopKind : uint8_t { kIoUring, kEpoll };

struct LoopKindRow {
  LoopKind kind;
  std::string_view word;  // of -loop, in the log and in the mapper's status
};

// In the order of LoopKind, which is that in which they are tried where none is asked for. The last
// one is had on every kernel.
inline constexpr std::array kLoopKinds = {
    LoopKindRow{LoopKind::kIoUring, "io_uring"},
    LoopKindRow{LoopKind::kEpoll, "epoll"},
};

constexpr std::string_view WordOf(LoopKind kind) {
  return kLoopKinds[static_cast<size_t>(kind)].word;
}

constexpr bool AreLoopKindsInPlace() {
  for (size_t i = 0; i < kLoopKinds.size(); ++i) {
    if (kLoopKinds[i].kind != static_cast<LoopKind>(i) || kLoopKinds[i].word.empty()) return false;
  }
  return true;
}
static_assert(AreLoopKindsInPlace());

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_LOOP_KIND_H_
