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

  // Whether standard output is a terminal that can be drawn on, and standard input one with keys.
  static bool IsThere();

  // Shows the alternate screen without a cursor, and lets keys be read at once and unseen.
  // REQUIRES: IsThere().
  Terminal();
  // Puts the terminal back as it was.
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  Size size() const;
  // Draws `lines`, which were made to fit size(), and empties the rest of the screen. False when the
  // terminal cannot be written to.
  bool Draw(const std::vector<std::string>& lines);
  // Stops this process as ^Z does, with the terminal as it was before, until SIGCONT.
  void Suspend();

 private:
  void Enter();
  void Leave();

  termios before_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_TERMINAL_H_
