// A file descriptor with one owner.
#ifndef EVERMAP_REGISTRY_BASE_OWNED_FD_H_
#define EVERMAP_REGISTRY_BASE_OWNED_FD_H_

namespace evermap {

// Closes its descriptor, if it has one, when it ends or gets another.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.Release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // Gives the descriptor to the caller, who closes it.
  int Release();

 private:
  int fd_ = -1;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_OWNED_FD_H_
