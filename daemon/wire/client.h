// A client that asks a mapper, over TCP and blocking: for the command line, the tools and the
// benchmarks.
//
//   Client client("127.0.0.1", 4369, {.timeout = absl::Seconds(5)});
//   absl::StatusOr<Client::Node> node = client.Lookup("rabbit");
//   if (absl::IsNotFound(node.status())) ...
//   absl::StatusOr<RegisteredNode> me = client.Register({.port = 5000, .name = "me"});
//   ... registered with me->creation() until `me` is destroyed
//
// Each request has a connection of its own, as the protocol wants it. Its timeout covers the whole
// exchange: connecting, sending and receiving. The client works with any mapper, the stock one
// included.
//
// Errors of all requests. Each message has the mapper's address and a way out:
//   kUnavailable       nobody listens there, or the connection was reset
//   kDeadlineExceeded  no whole reply in time
//   kDataLoss          the mapper closed the connection without a whole reply, which is also how it
//                      turns down what it does not answer
//   kInvalidArgument   the host has no address, a name does not fit the protocol, or the reply
//                      makes no sense
//   kResourceExhausted  out of file descriptors, or the reply has kReplySizeMax bytes or more
//
// Thread safety: a Client is immutable; its requests may be made by any number of threads.
#ifndef EVERMAP_DAEMON_WIRE_CLIENT_H_
#define EVERMAP_DAEMON_WIRE_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/wire/protocol.h"
#include "daemon/wire/tcp.h"

namespace evermap {

// A node that stays registered until this object is destroyed.
class RegisteredNode {
 public:
  RegisteredNode(TcpConnection connection, uint32_t creation)
      : connection_(std::move(connection)), creation_(creation) {}

  uint32_t creation() const { return creation_; }
  // The connection, non-blocking. It becomes readable when the mapper closes it, which is the end
  // of the registration.
  int fd() const { return connection_.fd(); }

 private:
  TcpConnection connection_;
  uint32_t creation_;
};

class Client {
 public:
  // Longest reply, bytes: more than NAMES of a registry of default size with the longest names.
  static constexpr size_t kReplySizeMax = size_t{256} << 20;

  struct Options {
    absl::Duration timeout = absl::Seconds(60);
  };

  // A protocol::NodeDescription that owns its texts.
  struct Node {
    uint16_t port = 0;
    uint8_t node_type = 0;
    uint8_t protocol = 0;
    uint16_t highest_version = 0;
    uint16_t lowest_version = 0;
    std::string name;
    std::string extra;
  };
  struct NamedPort {
    std::string name;
    uint16_t port = 0;
  };
  struct TextReply {
    uint32_t mapper_port = 0;
    std::string text;  // as sent: lines of NAMES, or of DUMP, each of which ends with "\n\0"
  };

  // `host` is an IPv4 or IPv6 address, or a name, whose addresses are tried one after the other.
  // Finding the address of a name may take longer than the timeout: the resolver has its own.
  Client(std::string_view host, uint16_t port, const Options& options);
  Client(std::string_view host, uint16_t port) : Client(host, port, Options()) {}

  // kNotFound when no such node is registered.
  absl::StatusOr<Node> Lookup(std::string_view name) const;
  absl::StatusOr<std::vector<NamedPort>> Names() const;
  absl::StatusOr<TextReply> NamesText() const;
  // Whether a mapper answers, if only to lookups: it may not list its nodes to whoever asks. The error is
  // that of NamesText().
  absl::Status Answers() const;
  absl::StatusOr<TextReply> Dump() const;
  // Ends the mapper. kFailedPrecondition when it refuses because nodes are registered.
  absl::Status Kill() const;
  // Unregisters a node by force. kNotFound when the mapper knows no such node.
  absl::Status Stop(std::string_view name) const;
  // kAlreadyExists when the mapper refuses the node, as it does when the name is taken.
  absl::StatusOr<RegisteredNode> Register(const protocol::NodeDescription& node) const;
  // The same over a connection to the mapper that the caller has made, or begun to make.
  absl::StatusOr<RegisteredNode> RegisterOver(TcpConnection connection,
                                              const protocol::NodeDescription& node) const;

  // Sends `frame` and returns what comes back until the mapper closes the connection or
  // `reply_size_max` bytes are there. An empty reply is no error here, and neither is half of one.
  absl::StatusOr<std::string> Exchange(absl::Span<const std::byte> frame,
                                       size_t reply_size_max) const;

  const std::string& host() const { return host_; }
  uint16_t port() const { return port_; }

 private:
  // Returns the reply to NAMES or DUMP, which has kPortHeaderSize bytes or more.
  absl::StatusOr<std::string> AskForText(absl::Span<const std::byte> frame) const;
  // `node` is valid.
  absl::StatusOr<RegisteredNode> RegisterWithin(const Waiter& waiter, TcpConnection connection,
                                                const protocol::NodeDescription& node) const;
  // The mapper's name in messages: "mapper on 127.0.0.1 port 4369".
  std::string Who() const;
  absl::Status ClosedEarly(std::string_view likely_cause) const;

  std::string host_;
  uint16_t port_;
  absl::Duration timeout_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_WIRE_CLIENT_H_
