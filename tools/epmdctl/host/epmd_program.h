// Which program an epmd is: Evermap, or that of Erlang/OTP, of which release.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_EPMD_PROGRAM_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_EPMD_PROGRAM_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace evermap {

struct EpmdProgram {
  std::string path = {};
  bool is_evermap = false;
  std::string erts_version =
      {};                     // of Erlang/OTP, where the path tells it, like "15.2.7"; else empty
  std::string registry = {};  // of Evermap, where this user may see which files it has; else empty
};
// Nothing when /proc does not show this user which program it is.
std::optional<EpmdProgram> ProgramOf(pid_t pid);

// "15.2.7" in ".../erts-15.2.7/bin/epmd"; empty where there is none. Pure.
std::string ErtsVersionIn(std::string_view path);

// Whether the epmd of this erts has CVE-2026-42792, by which whoever can connect can end it. It was
// mended in erts 15.2.7.11 (OTP 27.3.4.15), 16.4.0.4 (28.5.0.4) and 17.0.4 (29.0.4), says OTP; a
// distribution may have mended earlier ones. Nothing when the version is none. Pure.
std::optional<bool> HasCve202642792(std::string_view erts_version);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_EPMD_PROGRAM_H_
