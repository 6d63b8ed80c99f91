// A terminal that shows one screenful, drawn anew each time, and is left as it was found.
//
// Thread safety: one object in a process.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_TERMINAL_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_TERMINAL_H_

#include <termios.h>

#include <cstddef>
#include <string>
#include <vector>

namespace evermap {

class Terminal {
 public:
  struct Size {
    size_t columns = 80;
    size_t lines = 24;
  };

  // Whether there is one to write to and to read keys from.
  static bool IsThere();

  // Shows the alternate screen without a cursor, and lets keys be read at once and unseen.
  // REQUIRES: IsThere().
  Terminal();
  // As it was before.
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  Size size() const;
  // Lines that fit, no longer than the size says; the rest of the screen is empty after it. False
  // when it cannot be written to.
  bool Draw(const std::vector<std::string>& lines);
  // Stops this process as ^Z does, with the terminal as it was, until it goes on.
  void Suspend();

 private:
  void Enter();
  void Leave();

  termios before_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_TERMINAL_H_
