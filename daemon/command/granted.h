// The rights and reservations that a mapper's options give, with their users found out.
//
// Thread safety: a function without state. It may read files, and ask a directory service for users
// who were not found out before, and so take its time.
#ifndef EVERMAP_DAEMON_COMMAND_GRANTED_H_
#define EVERMAP_DAEMON_COMMAND_GRANTED_H_

#include <string>
#include <vector>

#include "daemon/command/options.h"
#include "daemon/host/user.h"
#include "daemon/names/reservations.h"
#include "daemon/names/rights.h"

namespace evermap {

struct Granted {
  Rights rights;
  Reservations reservations;
  // What is wrong, a line each: a user whom this host does not know, who is nobody then; a file of
  // reservations that cannot be read.
  std::vector<std::string> problems;
};

Granted FindGranted(const Options& options, FoundUsers& users);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_GRANTED_H_
