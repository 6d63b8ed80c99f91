#include "daemon/systemd/control_group.h"

#include <algorithm>

#include "registry/base/file_text.h"

namespace evermap {
namespace {

constexpr std::string_view kOwnHierarchy = ":name=systemd:";
constexpr std::string_view kUnifiedHierarchy = "0::";
constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kService = ".service";
constexpr std::string_view kUserManager = "user@";

// Takes the first component from `group`; empty when there is none.
std::string_view TakeComponent(std::string_view& group) {
  group.remove_prefix(std::min(group.find_first_not_of('/'), group.size()));
  const std::string_view component = group.substr(0, group.find('/'));
  group.remove_prefix(component.size());
  return component;
}

// The first component that is no slice; `group` is what comes after it.
std::string_view TakeUnit(std::string_view& group) {
  std::string_view component;
  do {
    component = TakeComponent(group);
  } while (component.ends_with(kSlice));
  // systemd puts this before names that the kernel might want for files of its own.
  if (component.starts_with('_')) component.remove_prefix(1);
  return component;
}

std::string ReadGroup(const char* path) { return std::string(ControlGroupIn(FileText(path))); }

std::string OwnGroup() {
  const std::string own = ReadGroup("/proc/self/cgroup");
  return std::string(BelowManager(own, ReadGroup("/proc/1/cgroup")));
}

}  // namespace

std::string OwnSystemUnit() { return SystemUnitOf(OwnGroup()); }

std::string OwnUserUnit() { return UserUnitOf(OwnGroup()); }

std::string_view ControlGroupIn(std::string_view text) {
  std::string_view unified;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const size_t own = line.find(kOwnHierarchy);
    if (own != std::string_view::npos && own == line.find(':')) {
      return line.substr(own + kOwnHierarchy.size());
    }
    if (line.starts_with(kUnifiedHierarchy)) unified = line.substr(kUnifiedHierarchy.size());
  }
  return unified;
}

std::string_view BelowManager(std::string_view group, std::string_view manager) {
  // Where managers of former releases kept themselves comes last.
  for (const std::string_view own : {"/init.scope", "/system.slice", "/system"}) {
    if (!manager.ends_with(own)) continue;
    manager.remove_suffix(own.size());
    break;
  }
  if (manager == "/") return group;
  const bool is_below = group.starts_with(manager) &&
                        (group.size() == manager.size() || group[manager.size()] == '/');
  return is_below ? group.substr(manager.size()) : group;
}

std::string SystemUnitOf(std::string_view group) { return std::string(TakeUnit(group)); }

std::string UserUnitOf(std::string_view group) {
  const std::string_view unit = TakeUnit(group);
  if (!unit.starts_with(kUserManager) || !unit.ends_with(kService)) return {};
  return std::string(TakeUnit(group));
}

}  // namespace evermap
