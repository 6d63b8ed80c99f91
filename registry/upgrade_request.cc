#include "registry/upgrade_request.h"

#include <cassert>
#include <utility>

#include "registry/request_file.h"

namespace evermap {
namespace {

constexpr char kUpgradeWord[] = "upgrade";

}  // namespace

std::string WriteUpgradeRequest(const std::string& registry_path, const std::string& program) {
  assert(program.starts_with('/'));
  if (program.size() > kRequestSizeMax) return program + ": this path is too long";
  return WriteRequest(registry_path, kUpgradeWord, program);
}

void RemoveUpgradeRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kUpgradeWord);
}

UpgradeRequest TakeUpgradeRequest(const std::string& registry_path) {
  TakenRequest taken = TakeRequest(registry_path, kUpgradeWord);
  UpgradeRequest request = {.complaint = std::move(taken.complaint)};
  if (taken.text.starts_with('/')) request.program = std::move(taken.text);
  return request;
}

}  // namespace evermap
