// Why something could not be done, as a value: for the part of the registry that readers link, which
// knows no Abseil.
#ifndef EVERMAP_REGISTRY_PROBLEM_H_
#define EVERMAP_REGISTRY_PROBLEM_H_

#include <cerrno>
#include <cstdint>
#include <string>

namespace evermap {

// `message` is one line: the path, what is wrong, the way out.
struct Problem {
  enum class Kind : uint8_t {
    kNone,
    kNotFound,
    kUnacceptable,  // the file, its directory or an option is not as it must be
    kNewer,         // the file has a layout that only a newer program knows
    kBusy,          // another process is in the way
    kHeld,          // another mapper has the registry
    kForeign,       // the registry belongs to another network namespace or port
    kNoSpace,       // nothing can be written there: it is full, or read-only
    kSystem,        // a system call failed for another reason
  };
  Kind kind = Kind::kNone;
  std::string message;
  explicit operator bool() const { return kind != Kind::kNone; }
};

// Whether errno value `error` says that memory or disk space is used up.
inline bool IsNoSpace(int error) { return error == ENOSPC || error == EDQUOT || error == ENOMEM; }

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_PROBLEM_H_
