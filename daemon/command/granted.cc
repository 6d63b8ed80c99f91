#include "daemon/command/granted.h"

#include "absl/status/status.h"

namespace evermap {
namespace {

void AddProblem(const absl::Status& status, Granted& granted) {
  if (!status.ok()) granted.problems.emplace_back(status.message());
}

}  // namespace

Granted FindGranted(const Options& options, FoundUsers& users) {
  Granted granted;
  // Of reservations for one name the last counts, and rules add to it, so rules come second.
  for (const GivenReservation& given : options.reservations) {
    AddProblem(granted.reservations.Read(given.source, given.text, users), granted);
  }
  std::vector<AccessRule> rules = options.access;
  for (AccessRule& rule : rules) {
    AddProblem(FindUsers(users, rule), granted);
    for (const std::string& name : rule.names) {
      AddProblem(granted.reservations.Let(name, rule.origins.users), granted);
    }
  }
  granted.rights = Rights(rules, options.allowed, options.relaxed_command_check);
  return granted;
}

}  // namespace evermap
