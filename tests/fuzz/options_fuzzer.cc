// Any command line and environment: options inside their limits, or a message of one line.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/command/options.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using evermap::Require;
  evermap::Input input(data, size);
  // The input is lines: the values of the variables, where "-" means not set, then the arguments.
  std::vector<std::string> lines(1);
  for (const char c : input.TakeRest()) {
    if (c == '\n') {
      lines.emplace_back();
    } else if (c != '\0') {
      lines.back().push_back(c);
    }
  }
  constexpr std::array<std::string_view, 3> kVariables = {
      evermap::kPortVariable, evermap::kAddressVariable, evermap::kRelaxedVariable};
  const auto environment = [&](const char* name) -> const char* {
    for (size_t i = 0; i < kVariables.size() && i < lines.size(); ++i) {
      if (kVariables[i] == name && lines[i] != "-") return lines[i].c_str();
    }
    return nullptr;
  };
  std::vector<const char*> arguments;
  for (size_t i = kVariables.size(); i < lines.size(); ++i) arguments.push_back(lines[i].c_str());
  const auto options = evermap::ParseOptions(arguments, environment);
  if (!options.ok()) {
    Require(!options.status().message().empty());
    return 0;
  }
  Require(options->port >= 1 && options->addresses.size() <= evermap::kAddressesMax);
  Require(options->workers <= evermap::kWorkersMax);
  Require(options->capacity >= 1 && options->capacity <= evermap::kRegistryCapacityMax);
  return 0;
}
