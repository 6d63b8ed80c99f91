#include "tools/epmdctl/top_command.h"

#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/host/steady_time.h"
#include "registry/base/clock.h"
#include "registry/watch.h"
#include "tools/epmdctl/view/output.h"
#include "tools/epmdctl/view/pause.h"
#include "tools/epmdctl/view/sample.h"
#include "tools/epmdctl/view/terminal.h"

namespace evermap {
namespace {

// Size of a sample that is printed as text instead of drawn on a screen.
constexpr size_t kOnceColumns = 100;
constexpr size_t kOnceLines = 50;
// The least time from one sample to the next that is taken because of a change: rates over less would jump.
constexpr absl::Duration kToldInterval = absl::Milliseconds(250);

bool Take(CurrentRegistry& registry, Sample& sample, std::string& error) {
  if (!registry.Read([&](const RegistryView& view) { sample = TakeSample(view); }, error)) {
    return false;
  }
  if (std::optional<ActivityReport> activity = ReadActivity(registry.path());
      sample.mapper_runs && activity.has_value()) {
    sample.askers = std::move(activity->askers);
  }
  return true;
}

// Prints samples where there is no terminal to draw on.
int Print(CurrentRegistry& registry, absl::Duration interval, bool once, bool json) {
  Pause pause({SIGINT, SIGTERM}, Pause::Keys::kIgnored);
  Sample before;
  std::string error;
  if (!Take(registry, before, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  while (pause.For(interval).kind == Pause::Event::kTime) {
    Sample now;
    if (!Take(registry, now, error)) {
      PrintError(error);
      return kExitNoRegistry;
    }
    if (json) {
      if (!PrintLine(JsonLine(SampleJson(before, now)))) return 0;
    } else {
      const Style style = Style::OfStandardOutput();
      for (const std::string& line : SampleLines(before, now, kOnceColumns, kOnceLines, style)) {
        if (!PrintLine(line)) return 0;
      }
    }
    if (once || !json) return 0;
    before = std::move(now);
  }
  return 0;
}

class Screen {
 public:
  Screen(CurrentRegistry& registry, absl::Duration interval)
      : registry_(registry),
        interval_(interval),
        style_(Style::OfStandardOutput()),
        watch_(RegistryWatch::Open(registry.path(), error_)) {}

  void Run() {
    Pause pause({SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGWINCH, SIGTSTP}, Pause::Keys::kRead);
    Terminal terminal;
    absl::Time last = absl::InfinitePast();
    absl::Time next = SteadyNow();
    while (true) {
      if (SteadyNow() >= next) {
        Look();
        last = SteadyNow();
        next = last + interval_;
      }
      if (!terminal.Draw(Lines(terminal.size()))) return;
      const Pause::Event event = pause.Until(next, {watch_ == nullptr ? -1 : watch_->fd()});
      switch (event.kind) {
        case Pause::Event::kTime:
          break;
        case Pause::Event::kReadable:
          watch_->Take();
          next = std::min(next, last + kToldInterval);
          break;
        case Pause::Event::kSignal:
          if (event.value == SIGTSTP) {
            terminal.Suspend();
          } else if (event.value != SIGWINCH) {
            return;
          }
          break;
        case Pause::Event::kKey:
          if (event.value == 'q' || event.value == 'Q' || event.value == -1) return;
          break;
        case Pause::Event::kNoReader:
          return;
      }
    }
  }

 private:
  void Look() {
    Sample fresh;
    if (!Take(registry_, fresh, error_)) {
      has_sample_ = false;
      return;
    }
    // The first sample is compared with itself, so that all rates are 0.
    before_ = has_sample_ ? std::move(now_) : fresh;
    now_ = std::move(fresh);
    has_sample_ = true;
  }

  std::vector<std::string> Lines(const Terminal::Size& size) const {
    std::vector<std::string> lines = {style_.Faint(
        Fitted("epmdctl top   " + Printable(registry_.path()) + "   " + TimeText(UnixNs()) +
                   "   every " + absl::FormatDuration(interval_) + "   q quits",
               size.columns))};
    if (!has_sample_) {
      lines.push_back("");
      lines.push_back(Fitted("waiting for a registry: " + Printable(error_), size.columns));
      return lines;
    }
    const size_t left = size.lines > 1 ? size.lines - 1 : 0;
    for (std::string& line : SampleLines(before_, now_, size.columns, left, style_)) {
      lines.push_back(std::move(line));
    }
    return lines;
  }

  CurrentRegistry& registry_;
  const absl::Duration interval_;
  const Style style_;
  std::string error_;
  // Without one a change is shown by the next sample, so nobody needs to know.
  const std::unique_ptr<RegistryWatch> watch_;
  bool has_sample_ = false;
  Sample before_;
  Sample now_;
};

}  // namespace

int Top(CurrentRegistry& registry, absl::Duration interval, bool once, bool json) {
  if (once || json || !Terminal::IsThere()) return Print(registry, interval, once, json);
  Screen(registry, interval).Run();
  return 0;
}

}  // namespace evermap
