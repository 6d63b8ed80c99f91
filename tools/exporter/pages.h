// The pages of the exporter other than the metrics.
#ifndef EVERMAP_TOOLS_EXPORTER_PAGES_H_
#define EVERMAP_TOOLS_EXPORTER_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/exporter/snapshot.h"

namespace evermap::exporter {

// Largest number of rows in the table of the status page; further nodes are only counted.
inline constexpr size_t kStatusPageNodesMax = 1000;

// The nodes as Prometheus' HTTP service discovery wants them: a JSON list with one target HOST:PORT
// per node, PORT being that of its distribution, and what else is known of it as labels
// __meta_evermap_*. Nodes without a port are left out.
// `host`: this host's name or IP address, as others reach it.
std::string ServiceDiscoveryJson(const Snapshot& snapshot, std::string_view host);

// A page for a browser, which loads nothing from elsewhere. `now_unix_ns`: the time against which
// ages are shown.
std::string StatusPageHtml(const Snapshot& snapshot, int64_t now_unix_ns);

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_PAGES_H_
