// Opening what lies at a registry's path in the newest layout, whatever lies there.
//
// REQUIRES, for both: the opening lock (writer_place.h) is held.
#ifndef EVERMAP_REGISTRY_OPENING_H_
#define EVERMAP_REGISTRY_OPENING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "registry/problem.h"
#include "registry/segment.h"
#include "registry/writer_place.h"

namespace evermap {

absl::Status ToStatus(const Problem& problem);

// Maps the registry at `path` for writing: rolls an unfinished migration back, makes the file for
// `capacity` names, or migrates it, as needed. Null, with a problem, when that cannot be.
std::unique_ptr<Segment> MapNewest(const std::string& path, uint32_t capacity,
                                   const WriterPlace& place, Problem& problem);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_OPENING_H_
