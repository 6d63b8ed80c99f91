#include "registry/forget_request.h"

#include <charconv>
#include <string_view>
#include <utility>

#include "registry/request_file.h"

namespace evermap {
namespace {

constexpr char kForgetWord[] = "forget";

// Takes a number, and a blank behind it, off the beginning of `text`.
template <typename Number>
bool TakeNumber(std::string_view& text, Number& number) {
  const char* const end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(result.ptr - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  return true;
}

}  // namespace

std::string WriteForgetRequest(const std::string& registry_path, const ForgetRequest& request) {
  uint64_t id = 0;
  return WriteRequest(registry_path, kForgetWord,
                      std::to_string(request.registration.slot) + " " +
                          std::to_string(request.registration.id) + " " +
                          std::to_string(request.asking_uid),
                      id);
}

bool HasForgetRequest(const std::string& registry_path) {
  return HasRequest(registry_path, kForgetWord);
}

void RemoveForgetRequest(const std::string& registry_path) {
  RemoveRequest(registry_path, kForgetWord);
}

ForgetRequest TakeForgetRequest(const std::string& registry_path) {
  TakenRequest taken = TakeRequest(registry_path, kForgetWord);
  ForgetRequest request = {.complaint = std::move(taken.complaint)};
  std::string_view text = taken.text;
  if (text.empty()) return request;
  RegistrationRef& registration = request.registration;
  if (!TakeNumber(text, registration.slot) || !TakeNumber(text, registration.id) ||
      !TakeNumber(text, request.asking_uid) || !text.empty()) {
    return {.complaint = registry_path + "." + kForgetWord + " is not understood"};
  }
  return request;
}

}  // namespace evermap
