#include "tools/epmdctl/settings_command.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "registry/reader.h"
#include "registry/request_file.h"
#include "registry/settings_note.h"
#include "registry/status.h"
#include "registry/upgrade_request.h"
#include "tools/epmdctl/host/settings_files.h"
#include "tools/epmdctl/host/tell_mapper.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// The column of values; a longer one goes beyond it.
constexpr size_t kValueColumnsMax = 40;

// Reads what the mapper says of itself; the exit code of a failure, which it prints, or 0.
int ReadMapper(CurrentRegistry& registry, MapperStatus& mapper) {
  std::string error;
  const bool is_read =
      registry.Read([&mapper](const RegistryView& view) { mapper = view.mapper_status(); }, error);
  if (!is_read) {
    PrintError(error);
    return kExitNoRegistry;
  }
  return 0;
}

nlohmann::json ToJson(const SettingsNote& note, bool is_running) {
  nlohmann::json settings = nlohmann::json::array();
  for (const SettingsNote::Setting& setting : note.settings) {
    settings.push_back(
        {{"name", setting.name},
         {"value", setting.value},
         {"origin", setting.origin},
         {"place", setting.place.empty() ? nlohmann::json() : nlohmann::json(setting.place)}});
  }
  nlohmann::json files = nlohmann::json::array();
  for (const SettingsNote::File& file : note.files) files.push_back(file.path);
  return {
      {"running", is_running},
      {"settings", settings},
      {"files", files},
      {"changed_files", ChangedSettingsFiles(note)},
      {"warnings", note.warnings},
      {"refusal", note.refusal.empty() ? nlohmann::json() : nlohmann::json(note.refusal)},
  };
}

void Print(const SettingsNote& note, bool is_running) {
  size_t name_size = 0;
  size_t value_size = 0;
  for (const SettingsNote::Setting& setting : note.settings) {
    name_size = std::max(name_size, setting.name.size());
    value_size = std::max(value_size, Columns(setting.value));
  }
  value_size = std::min(value_size, kValueColumnsMax);
  std::printf("%s  %s  FROM\n", Fitted("SETTING", name_size).c_str(),
              Fitted("VALUE", value_size).c_str());
  for (const SettingsNote::Setting& setting : note.settings) {
    const std::string value = Printable(setting.value);
    std::printf("%s  %s  %s%s%s\n", Fitted(setting.name, name_size).c_str(),
                Columns(value) > value_size ? value.c_str() : Fitted(value, value_size).c_str(),
                Printable(setting.origin).c_str(), setting.place.empty() ? "" : " ",
                Printable(setting.place).c_str());
  }
  for (const std::string& warning : note.warnings) {
    std::printf("warning: %s\n", Printable(warning).c_str());
  }
  if (!note.refusal.empty()) {
    std::printf("the last reload was refused: %s\n", Printable(note.refusal).c_str());
  }
  for (const std::string& path : ChangedSettingsFiles(note)) {
    std::printf("%s has changed since the mapper looked; epmd -check, then epmdctl reload\n",
                Printable(path).c_str());
  }
  if (!is_running)
    std::printf("The mapper does not run; these were the settings of the last one.\n");
}

int TellOutcome(const SettingsNote& note, bool json) {
  if (json) {
    PrintJson(ToJson(note, true));
  } else if (note.refusal.empty()) {
    for (const std::string& warning : note.warnings) {
      std::printf("warning: %s\n", Printable(warning).c_str());
    }
    std::printf("the settings were taken over\n");
  } else {
    PrintError("the settings are refused, and those before go on: " + note.refusal);
  }
  return note.refusal.empty() ? 0 : kExitFailed;
}

// Waits until the request has come to an outcome, or one that took its place, which `note` holds then, also
// when another mapper takes the place of the one that was asked. Empty, or why there is none.
std::string AwaitReload(CurrentRegistry& registry, uint64_t request, const SettingsNote& before,
                        int timeout_s, SettingsNote& note) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  while (std::chrono::steady_clock::now() < deadline) {
    poll(nullptr, 0, kTellPollMs);
    if (IsReloadOpen(registry.path(), request)) continue;
    std::string unread;
    if (ReadSettingsNote(registry.path(), note, unread) && note.reloads > before.reloads) return "";
  }
  const std::string waited = "no outcome after " + std::to_string(timeout_s) + " s";
  MapperStatus mapper;
  std::string unread;
  const bool is_read =
      registry.Read([&](const RegistryView& view) { mapper = view.mapper_status(); }, unread);
  if (!is_read || !IsRunning(mapper)) {
    return waited + ": the mapper does not run any more; see its log";
  }
  return waited +
         ": it is done when the mapper comes to it, see its log; one of a release that does not "
         "know of "
         "reloads has to be upgraded first (epmdctl upgrade)";
}

}  // namespace

int ShowSettings(CurrentRegistry& registry, bool json) {
  MapperStatus mapper;
  if (const int code = ReadMapper(registry, mapper); code != 0) return code;
  SettingsNote note;
  std::string error;
  if (!ReadSettingsNote(registry.path(), note, error)) {
    return Fail(error +
                "; a mapper that knows of settings writes it when it starts and with "
                "epmdctl reload");
  }
  const bool is_running = IsRunning(mapper);
  if (json) {
    PrintJson(ToJson(note, is_running));
  } else {
    Print(note, is_running);
  }
  return is_running ? 0 : kExitNotRunning;
}

int ReloadSettings(CurrentRegistry& registry, int timeout_s, bool json) {
  MapperStatus mapper;
  if (const int code = ReadMapper(registry, mapper); code != 0) return code;
  if (!IsRunning(mapper)) {
    PrintError(registry.path() + ": its mapper does not run; start it instead");
    return kExitNotRunning;
  }
  SettingsNote before;
  std::string error;
  ReadSettingsNote(registry.path(), before, error);
  uint64_t request = 0;
  error = WriteReloadRequest(registry.path(), request);
  if (!error.empty()) return Fail(error);
  error = TellMapper(registry.path(), mapper, kRequestSignal);
  if (!error.empty()) {
    RemoveReloadRequest(registry.path());
    return Fail(error);
  }
  SettingsNote note;
  // A request that is not done in time stays, and is done when it can be.
  error = AwaitReload(registry, request, before, timeout_s, note);
  return error.empty() ? TellOutcome(note, json) : Fail(error);
}

}  // namespace evermap
