// The nodes that a mapper was told to expect (-expect), and which of them are missing.
#ifndef EVERMAP_TOOLS_EXPECTED_H_
#define EVERMAP_TOOLS_EXPECTED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "registry/activity.h"
#include "registry/reader.h"

namespace evermap {

struct ExpectedNode {
  std::string name;
  bool is_missing = false;  // neither live nor orphaned
  // Since when it is missing: its last departure, or the start of the mapper when it has never
  // registered. 0 when it is not missing.
  int64_t missing_since_unix_ns = 0;
};

// In the order of `names`. A look at each name that the registry knows, if any is missing.
std::vector<ExpectedNode> ExpectedNodes(const std::vector<std::string>& names,
                                        const RegistryView& view);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EXPECTED_H_
