// What the mapper was told, as it counts now: settled at the start, taken anew when a reload is
// asked for, and noted beside the registry (registry/settings_note.h) for epmdctl config.
//
// What holds:
//   1. A mapper that finds its files wrong does not start: a rule of access that has a slip in it
//      must not be left out. It says the first mistake in one line; epmd -check says all.
//   2. One that has nodes of an earlier mapper starts all the same, since they would be lost. It goes
//      on with what the earlier one has noted; where that cannot be had, with what is right in the
//      files, and for this host alone. It takes the numbers of users from the note, too: a directory
//      service that does not answer would keep the nodes waiting.
//   3. A reload takes all over, or nothing. Of settings that count later only (Effect) the old
//      values stay, and that is said.
//
// Thread safety: belongs to the main thread. The reservations are read by workers: they change in
// Take(), while those pause.
#ifndef EVERMAP_DAEMON_MAPPER_CONFIGURATION_H_
#define EVERMAP_DAEMON_MAPPER_CONFIGURATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "daemon/command/granted.h"
#include "daemon/command/options.h"
#include "daemon/host/user.h"
#include "daemon/serve/shared.h"
#include "registry/settings_note.h"

namespace evermap {

class Configuration {
 public:
  // `arguments`: of this process, the program's name first. They outlive this.
  Configuration(Options options, const std::vector<std::string>& arguments);

  const Options& options() const { return options_; }
  const Reservations& reservations() const { return granted_.reservations; }
  // For the workers.
  ServeOptions serve_options() const;

  // Before anything is served. `has_earlier`: nodes of an earlier mapper are here, or come. After
  // an error (kFailedPrecondition, one line) the mapper does not start.
  absl::Status Settle(bool has_earlier);
  // Logs what has no effect because the listening sockets were made by others.
  void CheckInherited(absl::Span<const int> listeners);

  // Reads everything anew. kFailedPrecondition: why it is refused, in one line.
  absl::Status Read();
  // What has been read counts from now on. Returns the names of the settings that have changed.
  // REQUIRES: Read() was well.
  std::vector<std::string> Take();

  // Writes the note beside the registry.
  void WriteNote(const std::string& registry_path);
  // The same after a reload. `refusal`: why it was refused; empty: it was not.
  void NoteReload(const std::string& registry_path, const std::string& refusal);

 private:
  absl::StatusOr<Options> Parse(absl::Span<const GivenSetting> from_files) const;
  // What the earlier mapper has noted; nothing when there is no note.
  std::optional<SettingsNote> EarlierNote() const;
  void Write(const std::string& registry_path, uint64_t reloads, const std::string& refusal);
  void GoOnWithoutFiles(const std::optional<SettingsNote>& earlier);
  void Warn(std::string line);

  Options options_;
  const std::vector<std::string>& arguments_;
  FoundUsers users_;  // of granted_
  Granted granted_;
  std::vector<std::string> warnings_;
  // Between Read() and Take().
  std::optional<Options> read_options_;
  FoundUsers read_users_;
  Granted read_granted_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_CONFIGURATION_H_
