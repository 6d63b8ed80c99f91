// PATH.forget, beside the registry file PATH: the registration that the mapper is to end
// (request_file.h). epmdctl writes the file before it sends kRequestSignal to the mapper.
//
// The file holds three numbers in decimal, separated by blanks: slot and id of the registration, and the
// user who asks.
//
// Depends on nothing but the standard library and the kernel.
#ifndef EVERMAP_REGISTRY_FORGET_REQUEST_H_
#define EVERMAP_REGISTRY_FORGET_REQUEST_H_

#include <cstdint>
#include <string>

#include "registry/registration.h"

namespace evermap {

struct ForgetRequest {
  RegistrationRef registration = {};  // id 0: nothing is asked for
  uint32_t asking_uid = 0;
  std::string complaint = {};  // why a file that is there does not count; empty: nothing to say
};

// As the functions of request_file.h.
std::string WriteForgetRequest(const std::string& registry_path, const ForgetRequest& request);
bool HasForgetRequest(const std::string& registry_path);
void RemoveForgetRequest(const std::string& registry_path);
ForgetRequest TakeForgetRequest(const std::string& registry_path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_FORGET_REQUEST_H_
