// What a file says, for those who ask no more of it.
//
// Depends on nothing but the standard library, as the C library is made of it too.
#ifndef EVERMAP_REGISTRY_BASE_FILE_TEXT_H_
#define EVERMAP_REGISTRY_BASE_FILE_TEXT_H_

#include <string>

namespace evermap {

// The bytes of the file, as far as they can be read: empty where there is no such file, or where
// `path` is a directory. Not for a pipe, which it would wait for, nor for a file that a stranger
// makes, as it takes any size.
//
// No stream of the standard library: to read a file of /proc fails once its process has ended, and
// the buffer of a stream throws then, whatever the stream was told.
std::string FileText(const std::string& path);

// The first line of the same, without its end.
std::string FirstLineOf(const std::string& path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_FILE_TEXT_H_
