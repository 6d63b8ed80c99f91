// Waiting for changes of a registry instead of polling it: a descriptor that becomes readable when the
// mapper has told of a change (it touches the file: Registry::TellReaders()), and when another file
// comes to the path.
//
//   std::string problem;
//   std::unique_ptr<RegistryWatch> watch = RegistryWatch::Open(path, problem);     // before the registry is opened
//   ... open the registry, read it ...
//   poll(watch->fd(), ...);
//   const RegistryWatch::News news = watch->Take();
//   if (news.is_replaced) ... open the path again, if something is there ...
//   if (news.is_changed || news.is_replaced) ... read it anew ...
//
// Whoever watches before it reads misses nothing: each change that it has not read is told. One that
// is told may be read already, several may be told as one, and a notice may be of nothing that the
// reader cares for. What is not noticed: a directory further up that is renamed or mounted over.
//
// Watching takes a file's permission to be read, and no other, and takes nothing from anybody else: the
// kernel wakes each reader for itself. It bounds them by user: 128 of these, as a rule
// (fs.inotify.max_user_instances), and some ten thousands of files, of which each takes two
// (fs.inotify.max_user_watches). See inotify(7).
//
// Depends on nothing but the standard library and the kernel, since the C library is made of it too.
// Thread safety: an object belongs to one thread at a time; fd() may be waited for in any.
#ifndef EVERMAP_REGISTRY_WATCH_H_
#define EVERMAP_REGISTRY_WATCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "registry/base/owned_fd.h"

namespace evermap {

class RegistryWatch {
 public:
  struct News {
    // Something in the file may have changed.
    bool is_changed = false;
    // Another file may be at the path, or none: what is open may not be the registry any more.
    bool is_replaced = false;
    // An errno; 0: none. What is at the path now cannot be watched, so the caller has to poll. Take()
    // tries again.
    int error = 0;
  };

  // Watches what is at `path`, and what comes there: neither the file nor its directory need to be there
  // yet. Null when that is not to be had: errno says why (EMFILE, ENOSPC: a bound of the user's is
  // reached; EACCES: the directory is not readable), and `problem` is one line with the way out.
  static std::unique_ptr<RegistryWatch> Open(const std::string& path, std::string& problem);
  RegistryWatch(const RegistryWatch&) = delete;
  RegistryWatch& operator=(const RegistryWatch&) = delete;
  ~RegistryWatch() = default;

  // Readable, for poll(2) and the like, from when there is news until Take().
  int fd() const { return inotify_.get(); }
  // What is new since the last time. Does not wait.
  News Take();

 private:
  RegistryWatch(std::string path, OwnedFd inotify)
      : path_(std::move(path)), inotify_(std::move(inotify)) {}

  // Watches the file at the path and its directory, or, where that is missing, the nearest one above it
  // that is there. Returns an errno; 0: done.
  int Aim();
  // Watches the directory in which `awaited` is or is to appear. Returns an errno.
  int AimAtDirectory(const std::string& awaited);
  // Watches the file at the path, if one is there. Returns an errno.
  int AimAtFile();
  // Takes all that inotify(7) has.
  void TakeEvents(News& news);
  void Note(int descriptor, uint32_t mask, const char* name, News& news);

  const std::string path_;
  const OwnedFd inotify_;
  // Of inotify(7); -1: none.
  int file_ = -1;
  int directory_ = -1;
  std::string awaited_;  // the name in the directory that leads to the path
  bool is_aimed_ = false;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_WATCH_H_
