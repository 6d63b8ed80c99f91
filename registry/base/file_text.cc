#include "registry/base/file_text.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "registry/base/owned_fd.h"

namespace evermap {

std::string FileText(const std::string& path, size_t size_max) {
  std::string text;
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return text;
  std::array<char, 4096> part;
  while (true) {
    const size_t left = std::min(part.size(), size_max - text.size());
    const ssize_t size = read(file.get(), part.data(), left);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(part.data(), static_cast<size_t>(size));
  }
}

std::string FirstLineOf(const std::string& path) {
  std::string text = FileText(path);
  text.resize(text.find('\n') == std::string::npos ? text.size() : text.find('\n'));
  return text;
}

}  // namespace evermap
