// Results as text for people.
#ifndef EVERMAP_BENCH_TABLES_H_
#define EVERMAP_BENCH_TABLES_H_

#include <string>

#include "bench/comparison.h"
#include "bench/load.h"
#include "bench/restart.h"
#include "bench/suite.h"

namespace evermap::bench {

std::string LoadTable(const LoadResult& result, const LoadOptions& options);
std::string RestartTable(const RestartResult& result, const LoadOptions& options);
// The second against the first.
std::string ComparisonTable(const Contestant& first, const Contestant& second);
std::string BudgetTable(const SuiteResult& result);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_TABLES_H_
