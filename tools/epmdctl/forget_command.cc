#include "tools/epmdctl/forget_command.h"

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "registry/forget_request.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/request_file.h"
#include "registry/status.h"
#include "tools/epmdctl/host/tell_mapper.h"
#include "tools/epmdctl/list_command.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// How long it is looked whether the registration has ended. A mapper needs some milliseconds, unless
// it is in the middle of an upgrade.
constexpr std::chrono::seconds kForgetPatience{10};

struct Holder {
  MapperStatus mapper;
  Registration node;
  bool is_registered = false;
};

bool FindHolder(CurrentRegistry& registry, const std::string& name, Holder& found,
                std::string& error) {
  return registry.Read(
      [&](const RegistryView& view) {
        found.mapper = view.mapper_status();
        found.is_registered = view.Lookup(name, found.node);
      },
      error);
}

// Asks until the registration has ended; empty, or why it has not. Another forget that is asked for at
// the same time may take the place of the request.
std::string AskUntilEnded(CurrentRegistry& registry, const std::string& name,
                          const Holder& before) {
  const auto deadline = std::chrono::steady_clock::now() + kForgetPatience;
  const ForgetRequest request = {.registration = {before.node.slot, before.node.id},
                                 .asking_uid = getuid()};
  Holder now = before;
  while (std::chrono::steady_clock::now() < deadline) {
    std::string failure;
    if (!HasForgetRequest(registry.path())) {
      failure = WriteForgetRequest(registry.path(), request);
    }
    // Also when one lies there: whoever wrote it may not have come to say so.
    if (failure.empty()) failure = TellMapper(registry.path(), now.mapper, kRequestSignal);
    if (!failure.empty()) return failure;
    poll(nullptr, 0, kTellPollMs);
    std::string error;
    if (!FindHolder(registry, name, now, error)) continue;
    if (!now.is_registered || now.node.id != before.node.id) return "";
  }
  return "the mapper has not done it within " + std::to_string(kForgetPatience.count()) +
         " s: see its log; one of a release that does not know of this has to be upgraded first "
         "(epmdctl upgrade)";
}

}  // namespace

int Forget(CurrentRegistry& registry, const std::string& name, bool json) {
  Holder found;
  std::string error;
  if (!FindHolder(registry, name, found, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  if (!found.is_registered) {
    return Fail(Printable(name) + " is not registered, says " + registry.path());
  }
  if (!IsRunning(found.mapper)) {
    PrintError(registry.path() + ": its mapper does not run; start it, and ask again");
    return kExitNotRunning;
  }
  // Whose it is can be seen as long as it is there.
  const nlohmann::json node = NodeJson(found.node);
  error = AskUntilEnded(registry, name, found);
  if (!error.empty()) {
    RemoveForgetRequest(registry.path());
    return Fail(error);
  }
  if (json) {
    PrintJson(node);
    return 0;
  }
  std::printf("%s is registered no more. It was %s.\n", Printable(name).c_str(),
              OwnerLine(node).c_str());
  if (found.node.state == RegistrationState::kLive) {
    std::printf("If it still runs and is of OTP 24 or later, it registers again by itself.\n");
  }
  return 0;
}

}  // namespace evermap
