// A document of result_json.h as one HTML page that loads nothing from elsewhere.
#ifndef EVERMAP_BENCH_REPORT_REPORT_H_
#define EVERMAP_BENCH_REPORT_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace evermap::bench {

std::string ReportPage(const nlohmann::ordered_json& document);

// Writes the page to `path`, in place of what was there.
absl::Status WriteReport(const nlohmann::ordered_json& document, const std::string& path);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_REPORT_REPORT_H_
