#include "registry/base/text.h"

#include <cstring>

namespace evermap {

std::string ErrorText(int error) {
  char buffer[128];
  // The GNU variant, which may return a constant instead of filling the buffer.
  return strerror_r(error, buffer, sizeof(buffer));
}

}  // namespace evermap
