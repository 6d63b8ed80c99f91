#include "daemon/names/rights.h"

#include <algorithm>
#include <cassert>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/host/user.h"
#include "registry/base/text.h"
#include "registry/registration.h"

namespace evermap {
namespace {

constexpr std::string_view kFrom = "from";
constexpr std::string_view kEverybodyWord = "all";
constexpr std::string_view kHostWord = "host";
constexpr std::string_view kLoopbackWord = "loopback";
constexpr std::string_view kNobodyWord = "none";
constexpr std::string_view kUserPrefix = "user:";
constexpr std::string_view kNamePrefix = "register:";

template <size_t kSize>
constexpr bool AreRowsInPlace(const std::array<RightRow, kSize>& rows) {
  for (size_t i = 0; i < kSize; ++i) {
    if (rows[i].right != static_cast<Right>(i) || rows[i].verb.empty()) return false;
  }
  return true;
}
static_assert(AreRowsInPlace(kRights));

absl::Status WrongRule(std::string_view source, std::string_view text, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: %s %s", source, Quote(text), std::string(what)));
}

// The words of `text`, between blanks and commas.
std::vector<std::string_view> Words(std::string_view text) {
  constexpr std::string_view kSeparators = ", \t";
  std::vector<std::string_view> words;
  for (size_t begin = text.find_first_not_of(kSeparators); begin != std::string_view::npos;
       begin = text.find_first_not_of(kSeparators)) {
    text.remove_prefix(begin);
    words.push_back(text.substr(0, text.find_first_of(kSeparators)));
    text.remove_prefix(words.back().size());
  }
  return words;
}

std::string AllVerbs() {
  std::string verbs;
  for (const RightRow& row : kRights) absl::StrAppend(&verbs, std::string(row.verb), ", ");
  return verbs + "register:NAME";
}

absl::Status AddVerb(std::string_view source, std::string_view word, AccessRule& rule) {
  const auto row = std::find_if(kRights.begin(), kRights.end(),
                                [word](const RightRow& one) { return one.verb == word; });
  if (row != kRights.end()) {
    rule.rights.push_back(row->right);
    return absl::OkStatus();
  }
  if (!word.starts_with(kNamePrefix)) {
    return WrongRule(source, word, absl::StrCat("is no verb; those are ", AllVerbs()));
  }
  const std::string_view name = word.substr(kNamePrefix.size());
  if (name.empty() || name.size() > kRegistryNameSizeMax ||
      name.find('@') != std::string_view::npos) {
    return WrongRule(source, word, "is not register:NAME, with a node's name without @HOST");
  }
  rule.names.emplace_back(name);
  return absl::OkStatus();
}

absl::Status AddOrigin(std::string_view source, std::string_view word, Origins& origins) {
  if (word == kEverybodyWord) {
    origins.everybody = true;
  } else if (word == kHostWord) {
    origins.host = true;
  } else if (word == kLoopbackWord) {
    origins.loopback = true;
  } else if (word.starts_with(kUserPrefix) && word.size() > kUserPrefix.size()) {
    origins.users.push_back({.name = std::string(word.substr(kUserPrefix.size()))});
  } else if (const std::optional<Network> network = Network::Parse(word); network.has_value()) {
    origins.networks.push_back(*network);
  } else {
    return WrongRule(source, word,
                     "is nobody: say all, host, loopback, none, user:NAME, or a network as "
                     "192.0.2.0/24 or 2001:db8::/32, with no bits set beyond the prefix");
  }
  return absl::OkStatus();
}

// Whether those may have what the rule gives them.
absl::Status CheckFit(std::string_view source, std::string_view text, const AccessRule& rule) {
  const Origins& origins = rule.origins;
  const bool has_others = origins.everybody || !origins.networks.empty();
  for (const Right right : rule.rights) {
    if (!has_others || RowOf(right).is_for_others) continue;
    return WrongRule(source, text,
                     "lets other hosts register, whose nodes have no port here: say host, loopback "
                     "or user:NAME");
  }
  if (!rule.names.empty() && (has_others || origins.host || origins.loopback)) {
    return WrongRule(source, text, "names nodes: these are for users alone, as user:NAME, or none");
  }
  return absl::OkStatus();
}

absl::Status ParseRule(std::string_view source, std::string_view text, AccessRule& rule) {
  const std::vector<std::string_view> words = Words(text);
  const auto from = std::find(words.begin(), words.end(), kFrom);
  if (from == words.begin() || from == words.end() || from + 1 == words.end()) {
    return WrongRule(source, text, "is not VERB... from WHO..., as 'list from host'");
  }
  for (auto word = words.begin(); word != from; ++word) {
    if (absl::Status status = AddVerb(source, *word, rule); !status.ok()) return status;
  }
  const bool is_nobody = from + 2 == words.end() && from[1] == kNobodyWord;
  for (auto word = from + 1; word != words.end() && !is_nobody; ++word) {
    if (*word == kNobodyWord) return WrongRule(source, text, "has 'none' beside others");
    if (absl::Status status = AddOrigin(source, *word, rule.origins); !status.ok()) return status;
  }
  return CheckFit(source, text, rule);
}

}  // namespace

void Origins::Add(const Origins& others) {
  everybody = everybody || others.everybody;
  host = host || others.host;
  loopback = loopback || others.loopback;
  networks.insert(networks.end(), others.networks.begin(), others.networks.end());
  users.insert(users.end(), others.users.begin(), others.users.end());
}

bool Origins::HasUser(uint32_t uid) const {
  return uid != kUnknownUid && std::any_of(users.begin(), users.end(),
                                           [uid](const User& user) { return user.uid == uid; });
}

absl::StatusOr<std::vector<AccessRule>> ParseAccess(std::string_view source,
                                                    std::string_view text) {
  std::vector<AccessRule> rules;
  while (true) {
    const std::string_view one = text.substr(0, text.find(';'));
    AccessRule rule;
    rule.source = std::string(source);
    if (absl::Status status = ParseRule(source, one, rule); !status.ok()) return status;
    rules.push_back(std::move(rule));
    if (one.size() == text.size()) return rules;
    text.remove_prefix(one.size() + 1);
  }
}

absl::Status FindUsers(FoundUsers& users, AccessRule& rule) {
  absl::Status first;
  for (Origins::User& user : rule.origins.users) {
    user.uid = users.Of(user.name);
    if (user.uid != kUnknownUid) continue;
    first.Update(WrongRule(rule.source, user.name, "is a user that this host does not know"));
  }
  return first;
}

Rights::Rights(const std::vector<AccessRule>& rules, const std::vector<Network>& allowed,
               bool relaxed_command_check) {
  std::array<bool, kRights.size()> is_named = {};
  const auto add = [&](Right right, const Origins& origins) {
    origins_[static_cast<size_t>(right)].Add(origins);
    is_named[static_cast<size_t>(right)] = true;
  };
  for (const AccessRule& rule : rules) {
    for (const Right right : rule.rights) add(right, rule.origins);
  }
  if (!allowed.empty()) add(Right::kConnect, {.host = true, .networks = allowed, .users = {}});
  for (const RightRow& row : kRights) {
    if (is_named[static_cast<size_t>(row.right)]) continue;
    Origins& origins = origins_[static_cast<size_t>(row.right)];
    origins.everybody = row.who == Default::kEverybody;
    origins.host = row.who == Default::kThisHost ||
                   (row.who == Default::kThisHostWhenRelaxed && relaxed_command_check);
  }
}

}  // namespace evermap
