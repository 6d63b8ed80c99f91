// PATH.upgrade, beside the registry file PATH: the program that the next upgrade is to start, when
// that is not the file that the mapper itself was started from. epmdctl writes the file before it
// sends SIGHUP to the mapper, which takes and removes it.
//
// The file holds one absolute path and at most one line feed. Its name appears at once, when all is
// written, so a mapper never sees half a request. Only the mapper's user and root may write to the
// registry's directory; a file that others could have written is not believed all the same.
//
// PATH.reload asks for less: the mapper is to take its settings anew, and is not replaced. It is told so
// by kRequestSignal (request_file.h). The request stays until it is done, so that it is a successor's, or
// that of the mapper that is started again, when this one is gone meanwhile.
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

// Takes the request, and removes it also when it does not count.
UpgradeRequest TakeUpgradeRequest(const std::string& registry_path);

// The same for a reload of the settings. `id` becomes the request's: no other one that is there meanwhile has
// the same.
std::string WriteReloadRequest(const std::string& registry_path, uint64_t& id);
void RemoveReloadRequest(const std::string& registry_path);
// Whether the request of this id is not done.
bool IsReloadOpen(const std::string& registry_path, uint64_t id);
// Whether a reload is asked for. `complaint`: why a file that is there does not count.
bool BeginReload(const std::string& registry_path, std::string& complaint);
void EndReload(const std::string& registry_path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_UPGRADE_REQUEST_H_
