#include "daemon/command/interactive.h"

#include <array>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "daemon/wire/client.h"
#include "daemon/wire/protocol.h"

namespace evermap {
namespace {

// The longest name, in bytes, that the stock epmd takes with -stop.
constexpr size_t kStopNameSizeMax = 1000;

// A mapper listens on 127.0.0.1 wherever there is IPv4, and on ::1 wherever there is IPv6.
constexpr std::array<std::string_view, 2> kLoopback = {"127.0.0.1", "::1"};

void Write(std::FILE* stream, std::string_view text) {
  // The stock epmd does not notice that its output cannot be written, and exits with the same code.
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stream));
}
void Say(std::string_view text) { Write(stdout, text); }

// The answer of the mapper of this host to `ask`, which calls a member of a Client. IPv6 is tried
// only when IPv4 is unavailable, and its answer counts only when there is one: messages are of
// IPv4.
template <typename Ask>
auto AskLocalMapper(const Options& options, Ask ask) {
  auto reply = ask(Client(kLoopback[0], options.port));
  if (absl::IsUnavailable(reply.status())) {
    auto second_reply = ask(Client(kLoopback[1], options.port));
    if (second_reply.ok()) return second_reply;
  }
  return reply;
}

// -started, which prints nothing. A mapper that lists nothing has started, too.
int AskWhetherStarted(const Options& options) {
  for (const std::string_view host : kLoopback) {
    const absl::Status answers = Client(host, options.port).Answers();
    if (!absl::IsUnavailable(answers)) return answers.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  return EXIT_FAILURE;
}

// -names and -dump.
int AskForText(const Options& options) {
  const auto reply = AskLocalMapper(options, [&options](const Client& client) {
    return options.command == Command::kDump ? client.Dump() : client.NamesText();
  });
  if (reply.ok()) {
    Say(absl::StrFormat("epmd: up and running on port %d with data:\n", reply->mapper_port));
    Say(reply->text);
    return EXIT_SUCCESS;
  }
  if (absl::IsUnavailable(reply.status())) {
    Write(stderr, "epmd: Cannot connect to local epmd\n");
  } else {
    Say("epmd: no response from local epmd\n");
  }
  return EXIT_FAILURE;
}

// Sends `frame` and returns the first `size` bytes of the answer. Empty when there is no such
// answer; the complaint about that is printed then.
std::string AskForAnswer(const Options& options, absl::Span<const std::byte> frame, size_t size) {
  const auto answer = AskLocalMapper(
      options, [frame, size](const Client& client) { return client.Exchange(frame, size); });
  if (absl::IsUnavailable(answer.status())) {
    Write(stderr, "epmd: Cannot connect to local epmd\n");
    return {};
  }
  if (!answer.ok() || answer->size() < size) {
    Say("epmd: local epmd responded with <>\n");
    return {};
  }
  return *answer;
}

int Kill(const Options& options) {
  std::array<std::byte, protocol::kFrameSizeMax> frame;
  const size_t size = protocol::EncodeKillRequest(absl::MakeSpan(frame));
  const std::string answer =
      AskForAnswer(options, absl::MakeConstSpan(frame).first(size), protocol::kKillReplyOk.size());
  if (answer.empty()) return EXIT_FAILURE;
  if (answer != protocol::kKillReplyOk) {
    Say("Killing not allowed - living nodes in database.\n");
    return EXIT_FAILURE;
  }
  Say("Killed\n");
  return EXIT_SUCCESS;
}

int Stop(const Options& options) {
  if (options.stop_name.size() > kStopNameSizeMax) {
    Say("epmd: Name too long!");
    return EXIT_FAILURE;
  }
  std::array<std::byte, protocol::kFrameSizeMax> frame;
  const size_t size = protocol::EncodeStopRequest(options.stop_name, absl::MakeSpan(frame));
  // Both answers have the same size. A stock epmd answers "NOEXISTSTOPPED" for an unknown name, of
  // which its command shows as many bytes as "STOPPED" has, too.
  static_assert(protocol::kStopReplyStopped.size() == protocol::kStopReplyUnknown.size());
  const std::string answer = AskForAnswer(options, absl::MakeConstSpan(frame).first(size),
                                          protocol::kStopReplyStopped.size());
  if (answer.empty()) return EXIT_FAILURE;
  Say(answer);
  Say("\n");
  return EXIT_SUCCESS;
}

}  // namespace

int RunInteractive(const Options& options) {
  switch (options.command) {
    case Command::kNames:
    case Command::kDump:
      return AskForText(options);
    case Command::kStarted:
      return AskWhetherStarted(options);
    case Command::kKill:
      return Kill(options);
    case Command::kStop:
      return Stop(options);
    case Command::kServe:
    case Command::kCheck:
    case Command::kHelp:
    case Command::kVersion:
      break;
  }
  assert(false);
  return EXIT_FAILURE;
}

}  // namespace evermap
