// Reserved names (-reserve, register:NAME of -access): each may be registered by certain users only.
//
//   Reservations reservations;
//   FoundUsers users;
//   absl::Status status = reservations.Read("-reserve", "rabbit=rabbitmq", users);
//   const Reservations::Holder* holder = reservations.HolderOf("rabbit");
//
// A reservation is NAME=USER: a node's name without @HOST, and a user's name or number. A file has
// one reservation a line; blank lines and lines that start with # are skipped.
//
// Thread safety: Read() is called before the object is shared; HolderOf() may be called from any
// thread.
#ifndef EVERMAP_DAEMON_NAMES_RESERVATIONS_H_
#define EVERMAP_DAEMON_NAMES_RESERVATIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/names/rights.h"

namespace evermap {

// Names that may be reserved: as many as a registry holds by default.
inline constexpr size_t kReservationsMax = 65536;
// Longest file of reservations, bytes: longer than kReservationsMax of the longest lines.
inline constexpr size_t kReservationFileSizeMax = size_t{64} << 20;

struct Reservation {
  std::string name;
  std::string user;
};
// NAME=USER. Pure. kInvalidArgument: one line; `source` says in it where the text stands.
absl::StatusOr<Reservation> ParseReservation(std::string_view source, std::string_view text);

class Reservations {
 public:
  struct Holder {
    // No origins but users, of whom an unknown one (kUnknownUid) is nobody.
    Origins origins;

    bool Has(uint32_t uid) const { return origins.HasUser(uid); }
    // Their names, for a line of the log.
    std::string Text() const;
  };

  // Adds the reservations of `value`, which is NAME=USER or @FILE. If there are several for one
  // name, the last counts. Goes on after an error, and returns the first error as one line
  // (kInvalidArgument), in which `source` says where the value stands. A name whose user is not known
  // is reserved all the same, and when the name itself cannot be told, so is each other (HasUntold()).
  absl::Status Read(std::string_view source, const std::string& value, FoundUsers& users);

  // Lets these users have a name, too, or reserves it for them if it is not reserved yet. Of no
  // users: for nobody. The users were found out (FindUsers() in rights.h). kInvalidArgument: there
  // are kReservationsMax names already.
  absl::Status Let(const std::string& name, const std::vector<Origins::User>& users);

  // The users who alone may have the name; null when anybody may. Valid as long as this object.
  const Holder* HolderOf(std::string_view name) const;
  // Whether there are reservations of names that could not be read, so that nobody may have a name
  // that is not reserved.
  bool HasUntold() const { return has_untold_; }

 private:
  // Adds one NAME=USER; `source` says in the error where it stands.
  absl::Status Add(std::string_view source, std::string_view text, FoundUsers& users);
  absl::Status AddFile(std::string_view source, const std::string& path, FoundUsers& users);

  absl::flat_hash_map<std::string, Holder> holders_;
  Holder nobody_;
  bool has_untold_ = false;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_RESERVATIONS_H_
