// What can be asked of a mapper.
//
// A further kind is a value here and its name, a share of Mix, and what Asker sends and expects for
// it (traffic.h). Workloads are made of these kinds (bench/workloads.h).
#ifndef EVERMAP_BENCH_LOAD_REQUEST_KIND_H_
#define EVERMAP_BENCH_LOAD_REQUEST_KIND_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evermap::bench {

enum class RequestKind : uint8_t {
  kKnown,     // PORT2 of a node that is registered
  kUnknown,   // PORT2 of a name that no node has
  kNames,     // NAMES
  kRegister,  // ALIVE2, and the end of the connection as soon as it is answered
};
inline constexpr size_t kRequestKinds = 4;
std::string_view RequestKindName(RequestKind kind);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_REQUEST_KIND_H_
