// Results as JSON: what --json prints, what the HTML report draws, and what bench/compare-results
// reads. Keys end in their units.
#ifndef EVERMAP_BENCH_REPORT_RESULT_JSON_H_
#define EVERMAP_BENCH_REPORT_RESULT_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/load/load.h"
#include "bench/measure/comparison.h"
#include "bench/measure/mesh.h"
#include "bench/measure/restart.h"
#include "bench/measure/suite.h"
#include "bench/measure/summary.h"

namespace evermap::bench {

// {"tool", "version", "date", "machine", "command"}, with which every document starts. It does not
// contain a host name, so that results can be published.
nlohmann::ordered_json NewDocument(const std::string& command);

nlohmann::ordered_json ToJson(const LoadResult& result, const LoadOptions& options);
nlohmann::ordered_json ToJson(const RestartResult& result, const LoadOptions& options);
nlohmann::ordered_json ToJson(const Spread& spread);
// Compares the second with the first: a ratio below 1 says that the second has less.
nlohmann::ordered_json ToJson(const Contestant& first, const Contestant& second);
// The same for what it cost to form a mesh, one value for each round.
nlohmann::ordered_json ToJson(const std::vector<MeshCost>& first,
                              const std::vector<MeshCost>& second);
nlohmann::ordered_json ToJson(const SuiteResult& result);

// The document as text, with `indent` blanks for each level. Bytes that are not UTF-8 are replaced.
std::string Dump(const nlohmann::ordered_json& document, int indent = 2);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_REPORT_RESULT_JSON_H_
