// -pidfile: the file that tells a supervisor which process to send signals to.
//
//   PidFile file;
//   file.Write("/run/epmd.pid");   // when connections are accepted
//   file.Remove();                 // at the end
//
// The file is written whole or not at all, over what an earlier process has left there, and removed
// unless another process has written its own id meanwhile: the successor of a mapper, or a
// keeper that has relieved this one.
//
// Thread safety: none.
#ifndef EVERMAP_DAEMON_PROCESS_PID_FILE_H_
#define EVERMAP_DAEMON_PROCESS_PID_FILE_H_

#include <string>

namespace evermap {

class PidFile {
 public:
  // Writes the id of this process and a line end to the file at `path`, mode 0644; nothing when `path`
  // is empty. A failure is logged: it must not cost the service.
  void Write(const std::string& path);
  // Removes the file if it is this process's.
  void Remove();

 private:
  std::string path_;  // empty: nothing was written
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_PID_FILE_H_
