#include "bench/load/request_kind.h"

namespace evermap::bench {

std::string_view RequestKindName(RequestKind kind) {
  switch (kind) {
    case RequestKind::kKnown:
      return "known";
    case RequestKind::kUnknown:
      return "unknown";
    case RequestKind::kNames:
      return "names";
    case RequestKind::kRegister:
      return "register";
  }
  return "?";
}

}  // namespace evermap::bench
