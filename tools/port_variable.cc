#include "tools/port_variable.h"

#include <cstdlib>
#include <iostream>
#include <string>

#include "registry/base/text.h"

namespace evermap {

void TakePortVariableAsAtoi(std::string_view program) {
  const char* const value = std::getenv(kPortVariable);
  if (value == nullptr) return;
  const std::string number(NumberAsAtoi(value));
  if (number.empty() || number == value) return;
  std::cerr << program << ": " << kPortVariable << " is " << Quote(value)
            << ", of which the number " << number << " counts\n";
  setenv(kPortVariable, number.c_str(), 1);
}

}  // namespace evermap
