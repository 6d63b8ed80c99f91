// Results as text for people.
#ifndef EVERMAP_BENCH_REPORT_TABLES_H_
#define EVERMAP_BENCH_REPORT_TABLES_H_

#include <string>
#include <vector>

#include "bench/load/load.h"
#include "bench/measure/comparison.h"
#include "bench/measure/mesh.h"
#include "bench/measure/restart.h"
#include "bench/measure/suite.h"

namespace evermap::bench {

std::string LoadTable(const LoadResult& result, const LoadOptions& options);
std::string RestartTable(const RestartResult& result, const LoadOptions& options);
// Compares the second with the first.
std::string ComparisonTable(const Contestant& first, const Contestant& second);
// The same for what it cost to form a mesh, one value for each round.
std::string MeshTable(const std::vector<MeshCost>& first, const std::vector<MeshCost>& second);
std::string BudgetTable(const SuiteResult& result);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_REPORT_TABLES_H_
