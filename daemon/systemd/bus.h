// A connection to who speaks D-Bus: the manager of systemd on its own socket, or a bus.
//
//   absl::StatusOr<Bus> bus = Bus::Connect("/run/systemd/private", absl::Seconds(2));
//   if (bus.ok()) absl::StatusOr<BusMessage> reply = bus->Call({.member = "StartUnit", ...});
//
// It owns a socket. Calls are made one after the other, each until its reply is there.
// Thread safety: one thread at a time.
#ifndef EVERMAP_DAEMON_SYSTEMD_BUS_H_
#define EVERMAP_DAEMON_SYSTEMD_BUS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/systemd/bus_message.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class Bus {
 public:
  // Connects to the socket `path` as this process's effective user. `timeout` is how long this, and
  // each call later, may take. An error names the path.
  static absl::StatusOr<Bus> Connect(const std::string& path, absl::Duration timeout);

  // What the method returns. kFailedPrecondition: it has replied with an error, and this is its
  // text. Other errors: there is no reply, and none to later calls.
  absl::StatusOr<BusMessage> Call(const BusCall& call);

 private:
  Bus(OwnedFd socket, std::string path, absl::Duration timeout)
      : socket_(std::move(socket)), path_(std::move(path)), timeout_(timeout) {}

  absl::Status Authenticate();
  absl::StatusOr<BusMessage> AwaitReply(uint32_t serial, absl::Time deadline);
  absl::Status Send(const std::string& bytes, absl::Time deadline);
  // Has at least `size` bytes in received_.
  absl::Status Receive(size_t size, absl::Time deadline);
  // Waits for `events` of poll(2).
  absl::Status Await(short events, absl::Time deadline);
  absl::Status Error(int error) const;

  OwnedFd socket_;
  std::string path_;
  absl::Duration timeout_;
  uint32_t last_serial_ = 0;
  std::string received_;  // what was received and not taken yet
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SYSTEMD_BUS_H_
