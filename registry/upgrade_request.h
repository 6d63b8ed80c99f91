// PATH.upgrade, beside the registry file PATH: the program that the next upgrade is to start, when
// that is not the file that the mapper itself was started from. epmdctl writes the file before it
// sends SIGHUP to the mapper, which takes and removes it.
//
// The file holds one absolute path and at most one line feed. Its name appears at once, when all is
// written, so a mapper never sees half a request. Only the mapper's user and root may write to the
// registry's directory; a file that others could have written is not believed all the same.
//
// PATH.reload asks in the same way for less: the mapper is to take its settings anew, and is not
// replaced. A mapper of a release that does not know of it upgrades itself, and leaves the file.
//
// Depends on nothing but the standard library and the kernel.
#ifndef EVERMAP_REGISTRY_UPGRADE_REQUEST_H_
#define EVERMAP_REGISTRY_UPGRADE_REQUEST_H_

#include <cstdint>
#include <string>

namespace evermap {

struct UpgradeRequest {
  std::string program = {};    // an absolute path; empty: none is asked for
  std::string complaint = {};  // why a file that is there does not count; empty: nothing to say
};

// Asks the mapper of `registry_path` to start `program`, an absolute path, with the next upgrade.
// The file is given to the owner of the registry. Returns what went wrong, as a sentence that
// begins with a path; empty: nothing.
// REQUIRES: `program` begins with '/'.
std::string WriteUpgradeRequest(const std::string& registry_path, const std::string& program);

// Takes a request back, so that no later upgrade finds it.
void RemoveUpgradeRequest(const std::string& registry_path);

// Whether there is a request, for what it is worth.
bool IsUpgradeRequested(const std::string& registry_path);

// Takes the request, and removes it also when it does not count.
UpgradeRequest TakeUpgradeRequest(const std::string& registry_path);

// The same for a reload of the settings.
std::string WriteReloadRequest(const std::string& registry_path);
void RemoveReloadRequest(const std::string& registry_path);
// Of the request that is there: no other one that is there meanwhile has the same. 0: none is there.
uint64_t ReloadRequestId(const std::string& registry_path);
// Whether a reload is asked for. Takes the request.
bool TakeReloadRequest(const std::string& registry_path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_UPGRADE_REQUEST_H_
