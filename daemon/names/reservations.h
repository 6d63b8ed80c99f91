// Reserved names (-reserve): each may be registered by one user only.
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

namespace evermap {

// Names that may be reserved: as many as a registry holds by default.
inline constexpr size_t kReservationsMax = 65536;
// Longest file of reservations, bytes: longer than kReservationsMax of the longest lines.
inline constexpr size_t kReservationFileSizeMax = size_t{64} << 20;

class Reservations {
 public:
  struct Holder {
    std::string user;  // name or number, as it was given
    uint32_t uid;      // kUnknownUid: this host has no such user, so nobody may have the name
  };

  // Adds the reservations of `values`, each of which is NAME=USER or @FILE. If there are several
  // for one name, the last counts. Goes on after an error, and returns the first error as one line
  // (kInvalidArgument). A name whose user is not known is reserved all the same.
  absl::Status Read(const std::vector<std::string>& values);

  // The user who alone may have the name; null when anybody may. Valid as long as this object.
  const Holder* HolderOf(std::string_view name) const;

 private:
  // Adds one NAME=USER; `source` says in the error where it stands.
  absl::Status Add(std::string_view source, std::string_view text);
  absl::Status AddFile(const std::string& path);

  absl::flat_hash_map<std::string, Holder> holders_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_RESERVATIONS_H_
