#include "daemon/names/reservations.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/user.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/registration.h"

namespace evermap {
namespace {

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

absl::Status Reservations::Read(std::string_view source, const std::string& value,
                                FoundUsers& users) {
  return value.starts_with('@') ? AddFile(source, value.substr(1), users)
                                : Add(source, value, users);
}

absl::StatusOr<Reservation> ParseReservation(std::string_view source, std::string_view text) {
  // The last '=' separates, since a node's name may have one and a user's name has none.
  const size_t equals = text.rfind('=');
  Reservation reservation;
  reservation.name = Trimmed(text.substr(0, std::min(equals, text.size())));
  if (equals != std::string_view::npos) reservation.user = Trimmed(text.substr(equals + 1));
  const std::string& name = reservation.name;
  if (name.empty() || reservation.user.empty() || name.size() > kRegistryNameSizeMax) {
    return Invalid(source, text, "is not NAME=USER");
  }
  if (name.find_first_of(", \t\"'") != std::string::npos) {
    return Invalid(source, text,
                   "has a comma, a blank or a quote in the name: say one NAME=USER at a time");
  }
  if (name.find('@') != std::string::npos) {
    return Invalid(source, text, "has a host: give the node's name without @HOST");
  }
  return reservation;
}

absl::Status Reservations::Add(std::string_view source, std::string_view text, FoundUsers& users) {
  const absl::StatusOr<Reservation> reservation = ParseReservation(source, text);
  if (!reservation.ok() || holders_.size() >= kReservationsMax) has_untold_ = true;
  if (!reservation.ok()) return reservation.status();
  if (holders_.size() >= kReservationsMax) {
    return Invalid(source, text, absl::StrCat("is one more than ", kReservationsMax, " names"));
  }
  const std::string& user = reservation->user;
  const uint32_t uid = users.Of(user);
  holders_.insert_or_assign(reservation->name,
                            Holder{{.networks = {}, .users = {{.name = user, .uid = uid}}}});
  if (uid != kUnknownUid) return absl::OkStatus();
  return Invalid(source, text, "reserves a name for a user that this host does not know");
}

absl::Status Reservations::AddFile(std::string_view from, const std::string& path,
                                   FoundUsers& users) {
  const std::string source = absl::StrCat(std::string(from), " @", path);
  const auto failed = [&](std::string_view why) {
    has_untold_ = true;
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", source, std::string(why)));
  };
  // A relative path would mean another file later: the mapper leaves its working directory.
  if (!path.starts_with('/')) return failed("give the file with its whole path, from / on");
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat file = {};
  if (!fd.valid() || fstat(fd.get(), &file) != 0) return failed(ErrorText(errno));
  if (!S_ISREG(file.st_mode)) return failed("is no file");
  if (file.st_uid != 0 && file.st_uid != geteuid()) {
    return failed("belongs to another user; chown it to root or to the mapper's user");
  }
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
    first.Update(Add(absl::StrCat(source, ":", number), line, users));
  }
  return first;
}

absl::Status Reservations::Let(const std::string& name, const std::vector<Origins::User>& users) {
  if (holders_.size() >= kReservationsMax) {
    return Invalid("-access", name, absl::StrCat("is one more than ", kReservationsMax, " names"));
  }
  Holder& holder = holders_[name];
  holder.origins.users.insert(holder.origins.users.end(), users.begin(), users.end());
  return absl::OkStatus();
}

std::string Reservations::Holder::Text() const {
  std::string text;
  for (const Origins::User& user : origins.users) {
    absl::StrAppend(&text, text.empty() ? "user " : ", ", user.name);
  }
  return text.empty() ? "nobody" : text;
}

const Reservations::Holder* Reservations::HolderOf(std::string_view name) const {
  const Holder* const others = has_untold_ ? &nobody_ : nullptr;
  if (holders_.empty()) return others;
  const auto found = holders_.find(View(name));
  return found == holders_.end() ? others : &found->second;
}

}  // namespace evermap
