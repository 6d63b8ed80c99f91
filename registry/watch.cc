#include "registry/watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "registry/base/path.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// A touch is a modification. IN_ATTRIB tells that the file has lost a name.
constexpr uint32_t kFileEvents =
    IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW;
constexpr uint32_t kDirectoryEvents =
    IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// What is at the path, or above it, may change while it is looked at. Who changes it more often than this
// meanwhile is told of as an error.
constexpr int kAimsMax = 16;
// Events that are taken at a time: a name is as long as NAME_MAX at most.
constexpr size_t kEventsSize = 4096;

// The line for an errno of inotify.
std::string Complaint(const std::string& path, int error) {
  const std::string what = path + ": cannot be watched: ";
  switch (error) {
    case EMFILE:
      return what + "no descriptor, or too many watches of this user; raise ulimit -n or " +
             "fs.inotify.max_user_instances";
    case ENOSPC:
      return what + "too many watched files of this user; raise fs.inotify.max_user_watches";
    default:
      return what + ErrorText(error);
  }
}

bool IsMissing(int error) { return error == ENOENT || error == ENOTDIR; }

}  // namespace

std::unique_ptr<RegistryWatch> RegistryWatch::Open(const std::string& path, std::string& problem) {
  OwnedFd inotify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  int error = inotify.valid() ? 0 : errno;
  std::unique_ptr<RegistryWatch> watch;
  if (error == 0) {
    watch.reset(new RegistryWatch(path, std::move(inotify)));
    error = watch->Aim();
  }
  if (error == 0) return watch;
  problem = Complaint(path, error);
  watch.reset();
  errno = error;
  return nullptr;
}

RegistryWatch::News RegistryWatch::Take() {
  News news;
  TakeEvents(news);
  for (int i = 0; i < kAimsMax && !is_aimed_; ++i) {
    // What comes to the path from here on is told of, so the caller opens it after this.
    news.is_replaced = true;
    news.error = Aim();
    if (news.error != 0) break;
    // Of these, that a former file is not watched any more is no news.
    TakeEvents(news);
  }
  return news;
}

void RegistryWatch::TakeEvents(News& news) {
  alignas(inotify_event) std::array<char, kEventsSize> events;
  ssize_t size = 0;
  while ((size = read(inotify_.get(), events.data(), events.size())) > 0) {
    for (const char* at = events.data(); at < events.data() + size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      Note(event->wd, event->mask, event->len > 0 ? event->name : "", news);
      at += sizeof(*event) + event->len;
    }
  }
}

void RegistryWatch::Note(int descriptor, uint32_t mask, const char* name, News& news) {
  if ((mask & IN_Q_OVERFLOW) != 0) {
    news.is_changed = true;
    is_aimed_ = false;
  } else if (descriptor == file_) {
    if ((mask & IN_MODIFY) != 0) news.is_changed = true;
    if ((mask & ~static_cast<uint32_t>(IN_MODIFY)) != 0) is_aimed_ = false;
    if ((mask & IN_IGNORED) != 0) file_ = -1;
  } else if (descriptor == directory_) {
    const bool is_of_itself = *name == '\0';
    if (is_of_itself || awaited_ == name) is_aimed_ = false;
    if ((mask & IN_IGNORED) != 0) directory_ = -1;
  }
}

int RegistryWatch::Aim() {
  is_aimed_ = false;
  for (int i = 0; i < kAimsMax; ++i) {
    std::string awaited = path_;
    int error = AimAtDirectory(awaited);
    while (IsMissing(error) && DirectoryOf(awaited) != awaited) {
      awaited = DirectoryOf(awaited);
      error = AimAtDirectory(awaited);
    }
    if (error != 0) return error;
    const bool is_at_file = awaited == path_;
    if (is_at_file) error = AimAtFile();
    if (error != 0) return error;
    // What is missing may have come before the directory above it was watched.
    if (is_at_file || access(awaited.c_str(), F_OK) != 0) {
      is_aimed_ = true;
      return 0;
    }
  }
  return EAGAIN;
}

int RegistryWatch::AimAtFile() {
  const int watched = inotify_add_watch(inotify_.get(), path_.c_str(), kFileEvents);
  // Until another file is there the last one is the registry, although its name is gone.
  if (watched < 0) return IsMissing(errno) ? 0 : errno;
  if (file_ >= 0 && file_ != watched) inotify_rm_watch(inotify_.get(), file_);
  file_ = watched;
  return 0;
}

int RegistryWatch::AimAtDirectory(const std::string& awaited) {
  const int watched =
      inotify_add_watch(inotify_.get(), DirectoryOf(awaited).c_str(), kDirectoryEvents);
  if (watched < 0) return errno;
  if (directory_ >= 0 && directory_ != watched) inotify_rm_watch(inotify_.get(), directory_);
  directory_ = watched;
  awaited_ = BaseNameOf(awaited);
  return 0;
}

}  // namespace evermap
