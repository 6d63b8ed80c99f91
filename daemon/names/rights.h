// Who may ask for what: a right for each thing that can be asked of a mapper, and who has it.
//
//   absl::StatusOr<std::vector<AccessRule>> rules = ParseAccess("-access", "list from host");
//   Rights rights(*rules, {}, false);
//   rights.Of(Right::kList).host  // true
//
// A rule is VERB... from WHO..., with blanks or commas between words, and several rules are
// separated by semicolons:
//
//   list from host                              remote hosts may look a name up, and list nothing
//   register from user:rabbitmq user:ejabberd   only these users may register at all
//   register:rabbit from user:rabbitmq          nobody else may be `rabbit`
//   connect from host 10.1.0.0/16               others' connections are closed at once
//
// What holds:
//   1. For a verb that a rule names exactly those have the right whom the rules for it name. A verb
//      that no rule names keeps its default (kRights), which is that of the stock epmd.
//   2. Who may not connect may ask for nothing.
//   3. `register:NAME` goes before `register`: who may have that name is said by the rules for it
//      alone.
//   4. Options of their own are other words for rules: -allow N is `connect from host N`, -reserve
//      NAME=USER is `register:NAME from user:USER`, and -relaxed_command_check lets this host stop
//      nodes where no rule names `stop`.
//
// Thread safety: all is immutable once it is made.
#ifndef EVERMAP_DAEMON_NAMES_RIGHTS_H_
#define EVERMAP_DAEMON_NAMES_RIGHTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/host/address.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/user.h"

namespace evermap {

// In the order of kRights.
enum class Right : uint8_t { kConnect, kLookup, kList, kRegister, kDump, kKill, kStop };

enum class Default : uint8_t {
  kEverybody,
  kThisHost,
  kThisHostWhenRelaxed,  // nobody without -relaxed_command_check
};

struct RightRow {
  Right right;
  std::string_view verb;  // its word in a rule
  Default who;            // where no rule names it
  // Whether it can be given to other hosts. A node registers a port of this host, which the mapper
  // watches by what the kernel says of this host's sockets.
  bool is_for_others;
};

inline constexpr std::array<RightRow, 7> kRights = {{
    {Right::kConnect, "connect", Default::kEverybody, true},
    {Right::kLookup, "lookup", Default::kEverybody, true},
    {Right::kList, "list", Default::kEverybody, true},
    {Right::kRegister, "register", Default::kThisHost, false},
    {Right::kDump, "dump", Default::kThisHost, true},
    {Right::kKill, "kill", Default::kThisHost, true},
    {Right::kStop, "stop", Default::kThisHostWhenRelaxed, true},
}};
constexpr const RightRow& RowOf(Right right) { return kRights[static_cast<size_t>(right)]; }

// Networks and users of all rules and of -allow together. Each request of a right that is not
// everybody's may be compared with all of them.
inline constexpr size_t kOriginsMax = 256;

// Who has a right; nobody, when all is empty.
struct Origins {
  struct User {
    std::string name;            // name or number, as it was given
    uint32_t uid = kUnknownUid;  // unknown until it was found out; nobody is an unknown user
  };
  bool everybody = false;
  bool host = false;      // who comes from loopback, or from the address that it connects to
  bool loopback = false;  // who comes from loopback
  std::vector<Network> networks;
  std::vector<User> users;  // who are on this host

  void Add(const Origins& others);
  // Whether the user of this number is among the users; one who cannot be told is not.
  bool HasUser(uint32_t uid) const;
};

struct AccessRule {
  std::string source;  // where it stands, as messages begin
  std::vector<Right> rights;
  std::vector<std::string> names;  // of register:NAME
  Origins origins;                 // of which the users are not found out yet
};

// The rules of `text`. Pure. kInvalidArgument: one line that names `source`, which says where the
// text stands, and the way out.
absl::StatusOr<std::vector<AccessRule>> ParseAccess(std::string_view source, std::string_view text);

// Makes the number of each of a rule's users known. kInvalidArgument when this host does not know
// one, who then stays unknown; the others are found out all the same.
absl::Status FindUsers(FoundUsers& users, AccessRule& rule);

class Rights {
 public:
  // Those of a mapper without options.
  Rights() : Rights({}, {}, false) {}
  // Users that are not found out have no rights.
  Rights(const std::vector<AccessRule>& rules, const std::vector<Network>& allowed,
         bool relaxed_command_check);

  const Origins& Of(Right right) const { return origins_[static_cast<size_t>(right)]; }

 private:
  std::array<Origins, kRights.size()> origins_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_RIGHTS_H_
