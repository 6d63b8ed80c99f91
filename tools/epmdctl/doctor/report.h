// What the doctor has found out: a list of checks, to which each group of checks appends in the
// order in which it looks at things. Also the phrases that several groups use.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_REPORT_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace evermap {

enum class Verdict : uint8_t { kOk, kWarning, kFailed };

struct Check {
  const char* name;  // of what was checked
  Verdict verdict;
  std::string text;    // what was found
  std::string advice;  // what to do; empty when nothing needs to be done
};

class Report {
 public:
  void Say(const char* name, Verdict verdict, std::string text, std::string advice = "");

  bool has_failed() const;
  // [{"check", "result", "text", "advice"}], with null where there is no advice.
  nlohmann::json ToJson() const;
  // Prints a row for each check on standard output, wrapped to the terminal's width.
  void Print() const;

 private:
  std::vector<Check> checks_;
};

// The names in one sentence, without control characters; of many only the first ones.
std::string Listed(const std::vector<std::string>& names);
// "1 node", "2 nodes".
std::string NodesText(size_t count);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_REPORT_H_
