#include "daemon/command/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "daemon/command/granted.h"

namespace evermap {

int CheckSettings(const Options& options) {
  std::vector<std::string> problems = options.files.problems;
  FoundUsers users;
  const Granted granted = FindGranted(options, users);
  problems.insert(problems.end(), granted.problems.begin(), granted.problems.end());
  for (const std::string& problem : problems) std::printf("%s\n", problem.c_str());
  for (const std::string& warning : options.warnings) {
    std::printf("warning: %s\n", warning.c_str());
  }
  for (const SettingsFiles::File& file : options.files.files) {
    struct stat its = {};
    // The service's mapper has a user of its own.
    if (geteuid() == 0 && stat(file.path.c_str(), &its) == 0 && (its.st_mode & S_IROTH) == 0) {
      std::printf(
          "warning: %s can be read by root, and not by a mapper of another user; chmod a+r\n",
          file.path.c_str());
    }
  }
  std::string read;
  for (const SettingsFiles::File& file : options.files.files) {
    read += (read.empty() ? "" : ", ") + file.path;
  }
  if (read.empty()) read = "no file";
  if (problems.empty()) {
    std::printf("nothing is wrong; %s was read\n", read.c_str());
    return 0;
  }
  std::printf("%zu wrong; %s was read\n", problems.size(), read.c_str());
  return 1;
}

}  // namespace evermap
