// A document of result_json.h as one HTML page that needs nothing else.
#ifndef EVERMAP_BENCH_REPORT_REPORT_H_
#define EVERMAP_BENCH_REPORT_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace evermap::bench {

std::string ReportPage(const nlohmann::ordered_json& document);

absl::Status WriteReport(const nlohmann::ordered_json& document, const std::string& path);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_REPORT_REPORT_H_
