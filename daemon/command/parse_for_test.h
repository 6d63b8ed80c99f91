// What tests of command lines and settings have parsed, without the environment and the files of this host.
#ifndef EVERMAP_DAEMON_COMMAND_PARSE_FOR_TEST_H_
#define EVERMAP_DAEMON_COMMAND_PARSE_FOR_TEST_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/command/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {

// Variables and their values.
using Environment = std::map<std::string, std::string>;

inline absl::StatusOr<Options> Parse(const std::vector<const char*>& args,
                                     const Environment& environment = {}) {
  return ParseOptions(args, [&environment](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

inline Options ParseOrFail(const std::vector<const char*>& args,
                           const Environment& environment = {}) {
  absl::StatusOr<Options> options = Parse(args, environment);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : Options();
}

// The message, which must be one line; empty when there is no error.
inline std::string ErrorOf(const std::vector<const char*>& args,
                           const Environment& environment = {}) {
  const absl::StatusOr<Options> options = Parse(args, environment);
  if (options.ok()) return "";
  EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
  std::string message(options.status().message());
  EXPECT_THAT(message, ::testing::Not(::testing::HasSubstr("\n")));
  return message;
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_PARSE_FOR_TEST_H_
