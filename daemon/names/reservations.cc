#include "daemon/names/reservations.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/registration.h"

namespace evermap {
namespace {

// Longest entry of a user in the user database, bytes; longer than any that was seen.
constexpr size_t kUserEntrySizeMax = 65536;

// The number of a user who is given by name or number; kUnknownUid when there is none of that name.
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

// Debian's Abseil is built with a string_view of its own, which std::string_view does not convert
// to.
absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string Trimmed(std::string_view text) {
  return std::string(absl::StripAsciiWhitespace(View(text)));
}

absl::Status Invalid(std::string_view source, std::string_view text, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: '%s' %s", std::string(source), Escaped(text), std::string(what)));
}

}  // namespace

absl::Status Reservations::Read(const std::vector<std::string>& values) {
  absl::Status first;
  for (const std::string& value : values) {
    first.Update(value.starts_with('@') ? AddFile(value.substr(1)) : Add("-reserve", value));
  }
  return first;
}

absl::Status Reservations::Add(std::string_view source, std::string_view text) {
  // The last '=' separates, since a node's name may have one and a user's name has none.
  const size_t equals = text.rfind('=');
  const std::string name = Trimmed(text.substr(0, std::min(equals, text.size())));
  const std::string user = equals == std::string_view::npos ? "" : Trimmed(text.substr(equals + 1));
  if (name.empty() || user.empty() || name.size() > kRegistryNameSizeMax) {
    return Invalid(source, text, "is not NAME=USER");
  }
  if (name.find('@') != std::string::npos) {
    return Invalid(source, text, "has a host: give the node's name without @HOST");
  }
  if (holders_.size() >= kReservationsMax) {
    return Invalid(source, text, absl::StrCat("is one more than ", kReservationsMax, " names"));
  }
  const uint32_t uid = UidOf(user);
  holders_.insert_or_assign(name, Holder{user, uid});
  if (uid != kUnknownUid) return absl::OkStatus();
  return Invalid(source, text, "reserves a name for a user that this host does not know");
}

absl::Status Reservations::AddFile(const std::string& path) {
  const std::string source = "-reserve @" + path;
  const auto failed = [&source](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", source, std::string(why)));
  };
  // A relative path would mean another file later: the mapper leaves its working directory.
  if (!path.starts_with('/')) return failed("give the file with its whole path, from / on");
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat file = {};
  if (!fd.valid() || fstat(fd.get(), &file) != 0) return failed(ErrorText(errno));
  if (!S_ISREG(file.st_mode)) return failed("is no file");
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return failed("may be written by others than its owner; chmod go-w");
  }
  std::string content;
  std::array<char, 65536> chunk;
  ssize_t got;
  while ((got = read(fd.get(), chunk.data(), chunk.size())) > 0) {
    content.append(chunk.data(), static_cast<size_t>(got));
    if (content.size() > kReservationFileSizeMax) return failed("is too long");
  }
  if (got < 0) return failed(ErrorText(errno));
  absl::Status first;
  size_t number = 0;
  for (const absl::string_view text : absl::StrSplit(content, '\n')) {
    const std::string line(absl::StripAsciiWhitespace(text));
    ++number;
    if (line.empty() || line[0] == '#') continue;
    first.Update(Add(absl::StrCat(source, ":", number), line));
  }
  return first;
}

const Reservations::Holder* Reservations::HolderOf(std::string_view name) const {
  if (holders_.empty()) return nullptr;
  const auto found = holders_.find(View(name));
  return found == holders_.end() ? nullptr : &found->second;
}

}  // namespace evermap
