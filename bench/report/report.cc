#include "bench/report/report.h"

#include <cerrno>
#include <fstream>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "bench/report/result_json.h"

namespace evermap::bench {
namespace {

// The content of report_page.html, embedded at build time (embed.py).
constexpr char kPage[] =
#include "bench/report_page.inc"
    ;
constexpr std::string_view kPlace = "@DATA@";

}  // namespace

std::string ReportPage(const nlohmann::ordered_json& document) {
  std::string page = kPage;
  const size_t place = page.find(kPlace);
  // In JSON a '<' is always inside a string. Left as it is, it could end the script element.
  page.replace(place, kPlace.size(), absl::StrReplaceAll(Dump(document, 1), {{"<", "\\u003c"}}));
  return page;
}

absl::Status WriteReport(const nlohmann::ordered_json& document, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << ReportPage(document);
  file.close();
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace evermap::bench
