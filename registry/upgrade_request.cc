#include "registry/upgrade_request.h"

#include <cassert>
#include <utility>

#include "registry/request_file.h"

namespace evermap {
namespace {

constexpr char kUpgradeWord[] = "upgrade";
constexpr char kReloadWord[] = "reload";

}  // namespace

std::string WriteUpgradeRequest(const std::string& registry_path, const std::string& program) {
  assert(program.starts_with('/'));
  if (program.size() > kRequestSizeMax) return program + ": this path is too long";
  uint64_t id = 0;
  return WriteRequest(registry_path, kUpgradeWord, program, id);
}

std::string WriteReloadRequest(const std::string& registry_path, uint64_t& id) {
  return WriteRequest(registry_path, kReloadWord, "settings", id);
}

void RemoveUpgradeRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kUpgradeWord);
}

void RemoveReloadRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kReloadWord);
}

UpgradeRequest TakeUpgradeRequest(const std::string& registry_path) {
  TakenRequest taken = TakeRequest(registry_path, kUpgradeWord);
  UpgradeRequest request = {.complaint = std::move(taken.complaint)};
  if (taken.text.starts_with('/')) request.program = std::move(taken.text);
  return request;
}

bool IsReloadOpen(const std::string& registry_path, uint64_t id) {
  return IsRequestOpen(registry_path, kReloadWord, id);
}

bool BeginReload(const std::string& registry_path, std::string& complaint) {
  TakenRequest begun = BeginRequest(registry_path, kReloadWord);
  complaint = std::move(begun.complaint);
  if (begun.text.empty()) EndReload(registry_path);
  return !begun.text.empty();
}

void EndReload(const std::string& registry_path) { EndRequest(registry_path, kReloadWord); }

}  // namespace evermap
