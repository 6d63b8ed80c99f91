// Text for people: of errors, and of bytes that strangers sent.
#ifndef EVERMAP_REGISTRY_BASE_TEXT_H_
#define EVERMAP_REGISTRY_BASE_TEXT_H_

#include <string>

namespace evermap {

// What the C library says of errno value `error`; safe in any thread.
std::string ErrorText(int error);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_TEXT_H_
