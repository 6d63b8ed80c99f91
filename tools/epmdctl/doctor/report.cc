#include "tools/epmdctl/doctor/report.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "registry/base/text.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

constexpr size_t kNamesListedMax = 5;
constexpr size_t kVerdictColumns = 7;
constexpr size_t kNameColumns = 18;
// Columns before the text of a check: verdict and name, with two spaces after each.
constexpr size_t kIndentColumns = kVerdictColumns + 2 + kNameColumns + 2;

const char* VerdictText(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarning:
      return "warning";
    case Verdict::kFailed:
      return "failed";
  }
  return "unknown";
}

std::string Coloured(const Style& style, Verdict verdict, const std::string& text) {
  switch (verdict) {
    case Verdict::kOk:
      return style.Good(text);
    case Verdict::kWarning:
      return style.Warning(text);
    case Verdict::kFailed:
      break;
  }
  return style.Bad(text);
}

}  // namespace

void Report::Say(const char* name, Verdict verdict, std::string text, std::string advice) {
  checks_.push_back({name, verdict, std::move(text), std::move(advice)});
}

bool Report::has_failed() const {
  return std::any_of(checks_.begin(), checks_.end(),
                     [](const Check& check) { return check.verdict == Verdict::kFailed; });
}

nlohmann::json Report::ToJson() const {
  nlohmann::json list = nlohmann::json::array();
  for (const Check& check : checks_) {
    list.push_back({
        {"check", check.name},
        {"result", VerdictText(check.verdict)},
        {"text", check.text},
        {"advice", check.advice.empty() ? nlohmann::json() : nlohmann::json(check.advice)},
    });
  }
  return list;
}

void Report::Print() const {
  const Style style = Style::OfStandardOutput();
  const std::string indent = "\n" + std::string(kIndentColumns, ' ');
  const size_t columns = OutputColumns();
  const size_t text_columns = columns > 2 * kIndentColumns ? columns - kIndentColumns : columns;
  for (const Check& check : checks_) {
    const std::string verdict = Fitted(VerdictText(check.verdict), kVerdictColumns);
    std::string text = Coloured(style, check.verdict, verdict) + "  " +
                       Fitted(check.name, kNameColumns) + "  " +
                       absl::StrJoin(Wrapped(Printable(check.text), text_columns), indent);
    if (!check.advice.empty()) {
      for (const std::string& line : Wrapped("-> " + check.advice, text_columns)) {
        text += indent + style.Strong(line);
      }
    }
    std::printf("%s\n", text.c_str());
  }
}

std::string Listed(const std::vector<std::string>& names) {
  std::vector<std::string> listed;
  for (const std::string& name : names) {
    if (listed.size() == kNamesListedMax) break;
    listed.push_back(Printable(name));
  }
  return absl::StrJoin(listed, ", ") + (names.size() > listed.size() ? ", ..." : "");
}

std::string NodesText(size_t count) { return absl::StrCat(count, count == 1 ? " node" : " nodes"); }

}  // namespace evermap
