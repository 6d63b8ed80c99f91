#include "daemon/process/upgrade_record.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/log.h"
#include "daemon/host/own_program.h"
#include "registry/reader.h"
#include "registry/status.h"

namespace evermap {
namespace {

using Outcome = UpgradeStatus::Outcome;

void Write(Registry& registry, UpgradeStatus record, Outcome outcome, std::string text) {
  record.unix_ns = absl::ToUnixNanos(absl::Now());
  record.outcome = outcome;
  record.text = std::move(text);
  registry.SetUpgradeStatus(record);
}

// This process, as the record names the mapper that serves.
std::string ThisMapper() {
  return absl::StrCat("process ", getpid(), " runs ", OwnProgram(), ", version ", EVERMAP_VERSION);
}

}  // namespace

void RecordUpgradeBegun(Registry& registry) {
  UpgradeStatus record = registry.view().upgrade_status();
  ++record.number;
  Write(registry, std::move(record), Outcome::kRunning, "");
}

void RecordUpgradeFailed(Registry& registry, std::string_view reason) {
  Write(registry, registry.view().upgrade_status(), Outcome::kFailed, std::string(reason));
}

void RecordUpgradeSucceeded(Registry& registry) {
  UpgradeStatus record = registry.view().upgrade_status();
  const absl::Duration took = absl::Now() - absl::FromUnixNanos(record.unix_ns);
  const std::string text =
      absl::StrCat(ThisMapper(), ", after ", absl::ToInt64Milliseconds(took), " ms");
  Write(registry, std::move(record), Outcome::kSucceeded, text);
  Log(Severity::kNotice, "upgrade: %s", text);
}

void RecordUpgradeInterrupted(Registry& registry) {
  UpgradeStatus record = registry.view().upgrade_status();
  if (record.outcome != Outcome::kRunning) return;
  Write(registry, std::move(record), Outcome::kFailed,
        absl::StrCat("a mapper died in the middle of it; ", ThisMapper(), ", instead"));
}

}  // namespace evermap
