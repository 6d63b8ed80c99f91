#include "daemon/host/user.h"

#include <pwd.h>

#include <charconv>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/host/sock_diag.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Longest entry of a user in the user database, bytes; longer than any that was seen.
constexpr size_t kUserEntrySizeMax = 65536;

}  // namespace

uint32_t UidOf(const std::string& user) {
  uint32_t uid = 0;
  const char* const end = user.data() + user.size();
  const std::from_chars_result number = std::from_chars(user.data(), end, uid);
  if (number.ec == std::errc() && number.ptr == end) return uid;
  std::vector<char> buffer(kUserEntrySizeMax);
  passwd entry = {};
  passwd* found = nullptr;
  // A user who cannot be found out cannot be let through, so an error counts as no such user.
  getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? kUnknownUid : found->pw_uid;
}

std::string UserText(uint32_t uid) {
  if (uid == kUnknownUid) return "a user who cannot be told";
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/etc/passwd", "re"), std::fclose);
  std::vector<char> buffer(kUserEntrySizeMax);
  passwd entry = {};
  passwd* found = nullptr;
  while (file != nullptr &&
         fgetpwent_r(file.get(), &entry, buffer.data(), buffer.size(), &found) == 0) {
    if (found->pw_uid == uid) return absl::StrCat("user ", uid, " (", Escaped(found->pw_name), ")");
  }
  return absl::StrCat("user ", uid);
}

uint32_t FoundUsers::Of(const std::string& user) {
  const auto found = numbers_.find(user);
  if (found != numbers_.end()) return found->second;
  const uint32_t uid = UidOf(user);
  if (uid != kUnknownUid) numbers_.emplace(user, uid);
  return uid;
}

}  // namespace evermap
