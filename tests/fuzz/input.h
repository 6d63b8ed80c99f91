// The bytes of a fuzzer as a sequence of decisions; when they are used up all further ones are 0.
#ifndef EVERMAP_TESTS_FUZZ_INPUT_H_
#define EVERMAP_TESTS_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace evermap {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view TakeRest() { return Take(rest_.size()); }
  template <typename Number>
  Number Take() {
    Number number = 0;
    const std::string_view bytes = Take(sizeof(number));
    std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }

 private:
  std::string_view rest_;
};

// Ends the fuzzer when something that must hold does not.
inline void Require(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace evermap

#endif  // EVERMAP_TESTS_FUZZ_INPUT_H_
