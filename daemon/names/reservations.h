// Reserved names (-reserve, register:NAME of -access): each may be registered by certain users only.
//
//   Reservations reservations;
//   absl::Status status = reservations.Read({"rabbit=rabbitmq", "@/etc/epmd/reserved"});
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
    // Of whom an unknown one (kUnknownUid) is nobody.
    std::vector<Origins::User> users;

    bool Has(uint32_t uid) const;
    // Their names, for a line of the log.
    std::string Text() const;
  };

  // Adds the reservations of `values`, each of which is NAME=USER or @FILE. If there are several
  // for one name, the last counts. Goes on after an error, and returns the first error as one line
  // (kInvalidArgument). A name whose user is not known is reserved all the same.
  absl::Status Read(const std::vector<std::string>& values);
  // The same for one of them; `source` says in the error where it stands.
  absl::Status Read(std::string_view source, const std::string& value);

  // Lets these users have a name, too, or reserves it for them if it is not reserved yet. Of no
  // users: for nobody. The users were found out (FindUsers() in rights.h). kInvalidArgument: there
  // are kReservationsMax names already.
  absl::Status Let(const std::string& name, const std::vector<Origins::User>& users);

  // The users who alone may have the name; null when anybody may. Valid as long as this object.
  const Holder* HolderOf(std::string_view name) const;

 private:
  // Adds one NAME=USER; `source` says in the error where it stands.
  absl::Status Add(std::string_view source, std::string_view text);
  absl::Status AddFile(std::string_view source, const std::string& path);

  absl::flat_hash_map<std::string, Holder> holders_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_RESERVATIONS_H_
