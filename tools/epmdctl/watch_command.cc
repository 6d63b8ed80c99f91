#include "tools/epmdctl/watch_command.h"

#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "registry/activity.h"
#include "registry/base/clock.h"
#include "tools/epmdctl/view/changes.h"
#include "tools/epmdctl/view/news.h"
#include "tools/epmdctl/view/output.h"
#include "tools/epmdctl/view/pause.h"

namespace evermap {
namespace {

std::string Styled(const Style& style, Change::Kind kind, const std::string& text) {
  switch (kind) {
    case Change::Kind::kRegistered:
    case Change::Kind::kAdopted:
    case Change::Kind::kMapperStarted:
      return style.Good(text);
    case Change::Kind::kOrphaned:
      return style.Warning(text);
    case Change::Kind::kLeft:
    case Change::Kind::kOrphanEnded:
    case Change::Kind::kMapperStopped:
      return style.Bad(text);
    case Change::Kind::kUpgrade:
      return style.Strong(text);
  }
  return text;
}

class Watcher {
 public:
  Watcher(CurrentRegistry& registry, bool json)
      : registry_(registry), json_(json), style_(Style::OfStandardOutput()) {}

  // Looks once, and prints what is new. False when nothing reads standard output any more.
  bool Look() {
    std::optional<RegistryState> now;
    std::string error;
    seen_ = {};
    const auto look = [&](const RegistryView& view) {
      seen_ = {.is_readable = true, .tells_changes = view.tells_changes()};
      const bool is_same_file = registry_.openings() == openings_;
      if (last_.has_value() && is_same_file && view.generation() == last_->generation) {
        now.reset();
        CaptureMapper(view, fresh_);
      } else {
        now = Capture(view);
      }
    };
    if (!registry_.Read(look, error)) return Wait(error);
    const RegistryState& fresh = now.has_value() ? *now : fresh_;
    if (fresh.mapper_runs) seen_.pid = fresh.mapper.pid;
    if (!now.has_value()) return TellMapper();
    const bool is_first = !last_.has_value();
    const bool is_other_file = registry_.openings() != openings_;
    openings_ = registry_.openings();
    const RegistryState before = is_first ? *now : *std::move(last_);
    last_ = *std::move(now);
    if (is_first) return Begin();
    if (is_other_file && !Tell("reopened", "another file took the place of the registry")) {
      return false;
    }
    is_waiting_ = false;
    return TellAll(Changes(before, *last_, UnixNs()));
  }

  // What the last look has found out.
  const News::Seen& seen() const { return seen_; }

 private:
  bool Begin() {
    is_waiting_ = false;
    ReadExpected();
    const auto registered = std::count_if(
        last_->nodes.begin(), last_->nodes.end(),
        [](const auto& node) { return node.second.state != RegistrationState::kRemembered; });
    if (json_) {
      return PrintLine(JsonLine({
          {"time", TimeTextMs(UnixNs())},
          {"event", "watching"},
          {"registry", registry_.path()},
          {"registered", registered},
          {"pid", last_->mapper_runs ? nlohmann::json(last_->mapper.pid) : nlohmann::json()},
      }));
    }
    const std::string mapper = last_->mapper_runs
                                   ? absl::StrFormat("mapper %d runs", last_->mapper.pid)
                                   : "no mapper runs";
    return Tell("watching", absl::StrFormat("watching %s: %s, %d registered", registry_.path(),
                                            mapper, registered));
  }

  bool Wait(const std::string& why) {
    if (is_waiting_) return true;
    is_waiting_ = true;
    return Tell("waiting", "waiting for a registry: " + why);
  }

  // The generation has not changed, so only the mapper can have.
  bool TellMapper() {
    RegistryState before = *std::move(last_);
    last_ = RegistryState{.nodes = std::move(before.nodes),
                          .generation = before.generation,
                          .mapper = fresh_.mapper,
                          .mapper_runs = fresh_.mapper_runs,
                          .upgrade = fresh_.upgrade};
    before.nodes.clear();
    return TellAll(Changes(before, fresh_, UnixNs()));
  }

  bool TellAll(const std::vector<Change>& changes) {
    for (const Change& change : changes) {
      if (change.kind == Change::Kind::kMapperStarted) ReadExpected();
      const bool is_expected = expected_.contains(change.node.name);
      nlohmann::json json = ChangeJson(change);
      if (is_expected) json["expected"] = true;
      const std::string line =
          json_ ? JsonLine(json)
                : style_.Faint(TimeTextMs(change.unix_ns)) + " " +
                      Styled(style_, change.kind,
                             ChangeText(change) + (is_expected ? " (expected)" : ""));
      if (!PrintLine(line)) return false;
    }
    return true;
  }

  // The mapper's own list, which another one may have changed.
  void ReadExpected() {
    expected_.clear();
    const std::optional<ActivityReport> activity = ReadActivity(registry_.path());
    if (!activity.has_value()) return;
    expected_.insert(activity->expected.begin(), activity->expected.end());
  }

  bool Tell(const char* event, const std::string& text) {
    const std::string time = TimeTextMs(UnixNs());
    return PrintLine(json_ ? JsonLine({{"time", time}, {"event", event}, {"text", text}})
                           : style_.Faint(time) + " " + Printable(text));
  }

  CurrentRegistry& registry_;
  const bool json_;
  const Style style_;
  std::optional<RegistryState> last_;
  RegistryState fresh_;  // without nodes
  News::Seen seen_;
  uint32_t openings_ = 0;
  bool is_waiting_ = false;
  std::set<std::string> expected_;
};

}  // namespace

int Watch(CurrentRegistry& registry, absl::Duration interval, bool json) {
  Pause pause({SIGINT, SIGTERM}, Pause::Keys::kIgnored);
  Watcher watcher(registry, json);
  // Made before the first look, so that nothing falls between the two.
  News news(registry.path(), interval);
  while (watcher.Look()) {
    const Pause::Event event = news.Await(pause, watcher.seen());
    if (event.kind != Pause::Event::kTime && event.kind != Pause::Event::kReadable) break;
  }
  return 0;
}

}  // namespace evermap
