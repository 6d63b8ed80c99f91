// PATH.WORD, beside the registry file PATH: what epmdctl asks of the mapper, which takes and removes the
// file when a signal tells it so: kRequestSignal, or SIGHUP for an upgrade.
//
// What takes longer than a moment, and what another mapper has to do when this one dies, is begun and
// ended: while it is done the file is PATH.WORD.begun.
//
// The file's name appears at once, when all is written, so a mapper never sees half a request. Only the
// mapper's user and root may write to the registry's directory; a file that others could have written is
// not believed all the same.
//
// Depends on nothing but the standard library and the kernel.
#ifndef EVERMAP_REGISTRY_REQUEST_FILE_H_
#define EVERMAP_REGISTRY_REQUEST_FILE_H_

#include <signal.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace evermap {

// By default a process ignores it, so that a mapper of a release that knows of no such requests goes on.
inline constexpr int kRequestSignal = SIGURG;
// The longest text of a request, bytes.
inline constexpr size_t kRequestSizeMax = PATH_MAX;

struct TakenRequest {
  std::string text = {};       // without a line feed at its end; empty: nothing is asked for
  std::string complaint = {};  // why a file that is there does not count; empty: nothing to say
};

// Asks the mapper of `registry_path`. The file is given to the owner of the registry. Returns what went
// wrong, as a sentence that begins with a path; empty: nothing.
// REQUIRES: text.size() <= kRequestSizeMax.
// `id` becomes the request's: no other one that is there meanwhile has the same.
std::string WriteRequest(const std::string& registry_path, std::string_view word,
                         std::string_view text, uint64_t& id);
// Whether a request is there that nobody has taken.
bool HasRequest(const std::string& registry_path, std::string_view word);
// Takes a request back, so that nobody finds it later.
void RemoveRequest(const std::string& registry_path, std::string_view word);
// Takes the request, and removes it also when it does not count.
TakenRequest TakeRequest(const std::string& registry_path, std::string_view word);
// The same, but that it stays until it is ended. One that was begun and never ended is begun again, unless
// another is there.
TakenRequest BeginRequest(const std::string& registry_path, std::string_view word);
void EndRequest(const std::string& registry_path, std::string_view word);
// Whether the request of this id is not ended.
bool IsRequestOpen(const std::string& registry_path, std::string_view word, uint64_t id);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_REQUEST_FILE_H_
