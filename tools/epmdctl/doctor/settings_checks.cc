#include "tools/epmdctl/doctor/settings_checks.h"

#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/location.h"
#include "registry/settings_note.h"
#include "tools/epmdctl/host/settings_files.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

constexpr char kCheckName[] = "settings";
constexpr char kHowToReload[] =
    "epmd -check says whether they are right, epmdctl reload takes them over";

// What was read.
std::string WhatWasRead(const SettingsNote& note) {
  if (note.path.empty()) return "no file of settings is read";
  if (note.files.empty()) return absl::StrCat("there is no ", Printable(note.path));
  std::vector<std::string> paths;
  for (const SettingsNote::File& file : note.files) paths.push_back(file.path);
  return absl::StrCat("what counts is what they say: ", Listed(paths));
}

}  // namespace

void ExamineSettings(const std::string& registry_path, Report& report) {
  SettingsNote note;
  std::string error;
  if (!ReadSettingsNote(registry_path, note, error)) {
    // A mapper of a release before there were files of settings has written none.
    if (access(SettingsNotePath(registry_path).c_str(), F_OK) != 0) return;
    report.Say(kCheckName, Verdict::kWarning, absl::StrCat("it is not known what counts: ", error),
               "remove that file, and have the mapper write it again: epmdctl reload");
    return;
  }
  bool is_well = true;
  const auto warn = [&](std::string text, std::string advice) {
    report.Say(kCheckName, Verdict::kWarning, std::move(text), std::move(advice));
    is_well = false;
  };
  if (!note.refusal.empty()) {
    warn(absl::StrCat("the last reload was refused, and what counted before goes on: ",
                      Printable(note.refusal)),
         kHowToReload);
  }
  if (const std::vector<std::string> changed = ChangedSettingsFiles(note); !changed.empty()) {
    warn(absl::StrCat("the mapper has not read what these say by now: ", Listed(changed)),
         kHowToReload);
  }
  for (const std::string& warning : note.warnings) {
    warn(Printable(warning), "epmdctl config shows what counts, and where it is said");
  }
  if (is_well) report.Say(kCheckName, Verdict::kOk, WhatWasRead(note));
}

}  // namespace evermap
