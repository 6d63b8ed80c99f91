#include "bench/report/report.h"

#include <gtest/gtest.h>

#include <string>

#include "bench/measure/suite.h"
#include "bench/report/result_json.h"

namespace evermap::bench {
namespace {

TEST(Report, HoldsTheDocumentAndNothingFromElsewhere) {
  nlohmann::ordered_json document = NewDocument("lookup");
  document["server"] = "</script><b>";
  const std::string page = ReportPage(document);
  EXPECT_NE(page.find("\"tool\": \"epmd-bench\""), std::string::npos);
  EXPECT_EQ(page.find("@DATA@"), std::string::npos);
  EXPECT_EQ(page.find("</script><b>"), std::string::npos);
  for (const char* foreign : {"src=", "href=", "url(", "@import", "https://"}) {
    EXPECT_EQ(page.find(foreign), std::string::npos) << foreign;
  }
}

TEST(Report, SaysWhereItCannotBeWritten) {
  const absl::Status status = WriteReport(NewDocument("lookup"), "/nonexistent/report.html");
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent/report.html"), std::string::npos);
}

TEST(Budget, IsMetByItsMedian) {
  Budget budget{.limit = 1.05, .samples = {1.0, 1.04, 9.0}};
  EXPECT_TRUE(budget.IsMet());
  budget.is_minimum = true;
  EXPECT_FALSE(budget.IsMet());
  budget.samples = {};
  budget.is_minimum = false;
  EXPECT_FALSE(budget.IsMet());
}

TEST(ResultJson, ABudgetKeepsItsRounds) {
  SuiteResult result;
  result.budgets.push_back({.id = "x", .what = "y", .limit = 2, .samples = {1, 3}});
  const nlohmann::ordered_json json = ToJson(result);
  EXPECT_EQ(json["budgets"][0]["measured"]["median"], 2.0);
  EXPECT_EQ(json["budgets"][0]["samples"].size(), 2u);
  EXPECT_EQ(json["budgets"][0]["is_met"], true);
}

}  // namespace
}  // namespace evermap::bench
