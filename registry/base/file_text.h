// What a file says, for those who ask no more of it.
//
// Depends on nothing but the standard library, as the C library is made of it too.
#ifndef EVERMAP_REGISTRY_BASE_FILE_TEXT_H_
#define EVERMAP_REGISTRY_BASE_FILE_TEXT_H_

#include <cstddef>
#include <string>

namespace evermap {

// More of a file is left out: strangers make files of any size, also some of /proc. The longest that is
// meant to be read are the tables of /proc/net, with 150 bytes for each socket, and programs.
inline constexpr size_t kFileTextMax = 64 << 20;

// The first `size_max` bytes of the file, as far as they can be read: empty where there is no such
// file, or where `path` is a directory. Not for a pipe, which it would wait for.
//
// No stream of the standard library: to read a file of /proc fails once its process has ended, and
// the buffer of a stream throws then, whatever the stream was told.
std::string FileText(const std::string& path, size_t size_max = kFileTextMax);

// The first line of the same, without its end.
std::string FirstLineOf(const std::string& path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_FILE_TEXT_H_
