// The answers of the exporter that are no metrics.
#ifndef EVERMAP_TOOLS_EXPORTER_PAGES_H_
#define EVERMAP_TOOLS_EXPORTER_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/exporter/snapshot.h"

namespace evermap::exporter {

// Rows of the status page's table; the rest is only counted.
inline constexpr size_t kStatusPageNodesMax = 1000;

// The nodes as Prometheus' HTTP service discovery wants them: a JSON list with one target HOST:PORT
// per node, PORT being that of its distribution, and what else is known of it as labels
// __meta_evermap_*. Nodes without a port are left out.
// `host`: this host's name or IP address, as others reach it.
std::string ServiceDiscoveryJson(const Snapshot& snapshot, std::string_view host);

// For a browser: complete in itself, nothing is loaded from anywhere. `now_unix_ns`: for how long
// ago something was.
std::string StatusPageHtml(const Snapshot& snapshot, int64_t now_unix_ns);

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_PAGES_H_
