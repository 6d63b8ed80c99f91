// Reserved names (-reserve): which users alone may register them from this host.
//
//   Reservations reservations;
//   absl::Status status = reservations.Read({"rabbit=rabbitmq", "@/etc/epmd/reserved"});
//   const Reservations::Holder* holder = reservations.HolderOf("rabbit");
//
// A reservation is NAME=USER: a node's name without @HOST, and the name of a user or its number. A
// file has one a line; blank lines and those that start with # are left out.
//
// Thread safety: Read() before the object is shared; the rest at any time.
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

inline constexpr size_t kReservationsMax = 65536;
inline constexpr size_t kReservationFileSizeMax = size_t{64} << 20;

class Reservations {
 public:
  struct Holder {
    std::string user;  // as it was given
    uint32_t uid;      // kUnknownUid: there is no such user, so nobody may have the name
  };

  // Adds what the values of -reserve say, each NAME=USER or @FILE; of several for one name the last
  // counts. Goes on after an error and returns the first, in one line. A name whose user is not
  // known is reserved all the same.
  absl::Status Read(const std::vector<std::string>& values);

  // Null when anybody may have the name.
  const Holder* HolderOf(std::string_view name) const;

 private:
  absl::Status Add(std::string_view source, std::string_view text);
  absl::Status AddFile(const std::string& path);

  absl::flat_hash_map<std::string, Holder> holders_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_RESERVATIONS_H_
