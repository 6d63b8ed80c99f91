#include "daemon/command/granted.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

// Where a value stands, as messages begin: "-reserve", "/etc/epmd.conf:3: reserve".
std::string SourceOf(const GivenSetting& given) {
  if (given.origin != Origin::kFile) return given.place;
  return absl::StrCat(given.place, ": ", std::string(given.setting->name));
}

void AddProblem(const absl::Status& status, Granted& granted) {
  if (!status.ok()) granted.problems.emplace_back(status.message());
}

void AddAccess(const GivenSetting& given, Granted& granted, std::vector<AccessRule>& rules) {
  const std::string source = SourceOf(given);
  absl::StatusOr<std::vector<AccessRule>> parsed = ParseAccess(source, given.text);
  AddProblem(parsed.status(), granted);
  if (!parsed.ok()) return;
  for (AccessRule& rule : *parsed) {
    AddProblem(FindUsers(source, rule.origins), granted);
    for (const std::string& name : rule.names) {
      AddProblem(granted.reservations.Let(name, rule.origins.users), granted);
    }
    rules.push_back(std::move(rule));
  }
}

}  // namespace

Granted FindGranted(const Options& options) {
  Granted granted;
  std::vector<AccessRule> rules;
  // Of reservations for one name the last counts, and rules add to it, so rules come second.
  for (const GivenSetting& given : options.given) {
    if (given.origin == Origin::kDefault || given.setting->name != kReserveName) continue;
    AddProblem(granted.reservations.Read(SourceOf(given), given.text), granted);
  }
  for (const GivenSetting& given : options.given) {
    if (given.origin == Origin::kDefault || given.setting->name != kAccessName) continue;
    AddAccess(given, granted, rules);
  }
  granted.rights = Rights(rules, options.allowed, options.relaxed_command_check);
  return granted;
}

}  // namespace evermap
