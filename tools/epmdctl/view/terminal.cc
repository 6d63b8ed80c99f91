#include "tools/epmdctl/view/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string_view>

namespace evermap {
namespace {

// DEC private modes that every terminal of today has: the alternate screen, the cursor, and
// automatic wrapping, which must not turn a line of full width into two.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H";
constexpr std::string_view kClearLine = "\x1b[K";
constexpr std::string_view kClearBelow = "\x1b[J";

bool WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

bool Terminal::IsThere() { return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1; }

Terminal::Terminal() {
  assert(IsThere());
  Enter();
}

Terminal::~Terminal() { Leave(); }

void Terminal::Enter() {
  tcgetattr(STDIN_FILENO, &before_);
  termios raw = before_;
  // ISIG stays: ^C and ^Z are signals.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  // A failure means that the terminal has gone, which the next Draw() reports.
  tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  WriteAll(kEnter);
}

void Terminal::Leave() {
  WriteAll(kLeave);
  // TCSAFLUSH drops the keys that were not read: they were meant for this screen, not for the
  // shell.
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

Terminal::Size Terminal::size() const {
  winsize window = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0 || window.ws_row == 0) {
    return {};
  }
  return {window.ws_col, window.ws_row};
}

bool Terminal::Draw(const std::vector<std::string>& lines) {
  const size_t count = std::min(lines.size(), size().lines);
  // The screen is written over the last one, and in one piece, so that nothing flickers.
  std::string screen(kHome);
  for (size_t i = 0; i < count; ++i) {
    if (i > 0) screen += "\r\n";
    screen += lines[i];
    screen += kClearLine;
  }
  screen += kClearBelow;
  return WriteAll(screen);
}

void Terminal::Suspend() {
  Leave();
  raise(SIGSTOP);
  Enter();
}

}  // namespace evermap
