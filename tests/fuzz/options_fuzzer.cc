// Any command line, environment and file of settings: options inside their limits, or a message of
// one line for whatever is wrong.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "daemon/command/options.h"
#include "daemon/command/settings_file.h"
#include "tests/fuzz/input.h"

namespace {

constexpr char kFile[] = "file";

bool IsOneLine(absl::string_view text) {
  return !text.empty() && text.find('\n') == absl::string_view::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using evermap::Require;
  evermap::Input input(data, size);
  std::string text(input.TakeRest());
  text.erase(std::remove(text.begin(), text.end(), '\0'), text.end());
  // Lines: "@LINE" is one of the file, "ERL_EPMD_..." one of the environment, any other an argument.
  std::string file;
  std::vector<std::string> variables;
  std::vector<std::string> words;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "@")) {
      absl::StrAppend(&file, line.substr(1), "\n");
    } else if (absl::StartsWith(line, "ERL_EPMD_")) {
      variables.emplace_back(line);
    } else {
      words.emplace_back(line);
    }
  }
  evermap::SettingsFiles files;
  evermap::ParseSettings(kFile, file, files);
  Require(files.problems.size() <= evermap::kSettingsProblemsMax);
  for (const std::string& problem : files.problems) {
    Require(IsOneLine(problem) && absl::StartsWith(problem, kFile));
  }
  const auto environment = [&](const char* name) -> const char* {
    for (const std::string& variable : variables) {
      absl::string_view rest = variable;
      if (absl::ConsumePrefix(&rest, name) && absl::StartsWith(rest, "=")) return rest.data() + 1;
    }
    return nullptr;
  };
  std::vector<const char*> arguments;
  for (const std::string& word : words) arguments.push_back(word.c_str());
  const auto options = evermap::ParseOptions(arguments, environment, files.settings);
  if (!options.ok()) {
    Require(IsOneLine(options.status().message()));
    return 0;
  }
  Require(options->port >= 1 && options->addresses.size() <= evermap::kAddressesMax);
  Require(options->workers <= evermap::kWorkersMax);
  Require(options->expected.size() <= evermap::kExpectedMax);
  Require(options->capacity >= 1 && options->capacity <= evermap::kRegistryCapacityMax);
  for (const std::string& warning : options->warnings) Require(IsOneLine(warning));
  return 0;
}
