#include "registry/request_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr char kBegun[] = ".begun";

std::string RequestPath(const std::string& registry_path, std::string_view word) {
  return registry_path + "." + std::string(word);
}

uint64_t IdOf(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0 ? file.st_ino : 0;
}

// Whether only root and the user of this process can have written the file.
bool IsOfUs(const struct stat& file) {
  return S_ISREG(file.st_mode) && (file.st_uid == geteuid() || file.st_uid == 0) &&
         (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// Gives the open file to the owner of the registry, which is another user when root asks.
bool GiveToOwner(int fd, const std::string& registry_path) {
  struct stat registry;
  if (stat(registry_path.c_str(), &registry) != 0) return false;
  return registry.st_uid == geteuid() || fchown(fd, registry.st_uid, registry.st_gid) == 0;
}

TakenRequest Read(const std::string& path) {
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return {};
  struct stat file;
  if (fstat(fd.get(), &file) != 0 || !IsOfUs(file)) {
    return {.complaint = path + " is not believed: others may write to it"};
  }
  std::array<char, kRequestSizeMax> bytes;
  const ssize_t size = read(fd.get(), bytes.data(), bytes.size());
  std::string_view text(bytes.data(), size > 0 ? static_cast<size_t>(size) : 0);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return {.text = std::string(text)};
}

}  // namespace

std::string WriteRequest(const std::string& registry_path, std::string_view word,
                         std::string_view text, uint64_t& id) {
  assert(text.size() <= kRequestSizeMax);
  const std::string path = RequestPath(registry_path, word);
  const std::string temporary = path + "." + std::to_string(getpid());
  // A process of the same id may have left it.
  unlink(temporary.c_str());
  const OwnedFd fd(
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return temporary + ": cannot be created: " + ErrorText(errno);
  // It keeps that under its name, beside whatever has the name.
  id = IdOf(temporary);
  std::string complaint;
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    complaint = temporary + ": cannot be written: " + ErrorText(errno);
  } else if (!GiveToOwner(fd.get(), registry_path)) {
    complaint = temporary + ": cannot be given to the mapper's user: " + ErrorText(errno);
  } else if (rename(temporary.c_str(), path.c_str()) != 0) {
    complaint = path + ": cannot be named: " + ErrorText(errno);
  }
  if (!complaint.empty()) unlink(temporary.c_str());
  return complaint;
}

bool HasRequest(const std::string& registry_path, std::string_view word) {
  return IdOf(RequestPath(registry_path, word)) != 0;
}

void RemoveRequest(const std::string& registry_path, std::string_view word) {
  unlink(RequestPath(registry_path, word).c_str());
}

TakenRequest TakeRequest(const std::string& registry_path, std::string_view word) {
  const std::string path = RequestPath(registry_path, word);
  TakenRequest taken = Read(path);
  unlink(path.c_str());
  return taken;
}

TakenRequest BeginRequest(const std::string& registry_path, std::string_view word) {
  const std::string path = RequestPath(registry_path, word);
  const std::string begun = path + kBegun;
  if (rename(path.c_str(), begun.c_str()) != 0 && errno != ENOENT) {
    return {.complaint = path + " cannot be begun: " + ErrorText(errno)};
  }
  return Read(begun);
}

void EndRequest(const std::string& registry_path, std::string_view word) {
  // What is no file cannot be a request, and is in the way of the next.
  remove((RequestPath(registry_path, word) + kBegun).c_str());
}

bool IsRequestOpen(const std::string& registry_path, std::string_view word, uint64_t id) {
  const std::string path = RequestPath(registry_path, word);
  return IdOf(path) == id || IdOf(path + kBegun) == id;
}

}  // namespace evermap
