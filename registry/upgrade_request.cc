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
  return WriteRequest(registry_path, kUpgradeWord, program);
}

std::string WriteReloadRequest(const std::string& registry_path) {
  return WriteRequest(registry_path, kReloadWord, "settings");
}

void RemoveUpgradeRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kUpgradeWord);
}

void RemoveReloadRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kReloadWord);
}

bool IsUpgradeRequested(const std::string& registry_path) {
  return RequestId(registry_path, kUpgradeWord) != 0;
}

UpgradeRequest TakeUpgradeRequest(const std::string& registry_path) {
  TakenRequest taken = TakeRequest(registry_path, kUpgradeWord);
  UpgradeRequest request = {.complaint = std::move(taken.complaint)};
  if (taken.text.starts_with('/')) request.program = std::move(taken.text);
  return request;
}

uint64_t ReloadRequestId(const std::string& registry_path) {
  return RequestId(registry_path, kReloadWord);
}

bool TakeReloadRequest(const std::string& registry_path) {
  return !TakeRequest(registry_path, kReloadWord).text.empty();
}

}  // namespace evermap
