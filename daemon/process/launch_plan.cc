#include "daemon/process/launch_plan.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "daemon/custody/words.h"
#include "daemon/host/close_from.h"

namespace evermap {
namespace {

// A process id has at most 7 digits (PID_MAX_LIMIT is 4,194,304); these are more than enough.
constexpr char kRoomForPid[] = "0000000000";

// Writes `pid` in decimal digits, and a zero, over the value of `variable`, NAME=VALUE.
void WriteValue(pid_t pid, std::string& variable) {
  assert(pid >= 0);
  char* at = std::strchr(variable.data(), '=') + 1;
  const unsigned number = static_cast<unsigned>(pid);
  unsigned divisor = 1;
  while (number / divisor >= 10) divisor *= 10;
  for (; divisor > 0; divisor /= 10) *at++ = static_cast<char>('0' + number / divisor % 10);
  *at = '\0';
}

}  // namespace

LaunchPlan::LaunchPlan(const Launch& launch)
    : program_(launch.program), otherwise_(launch.otherwise), arguments_(launch.arguments) {
  Place(launch);
  FillEnvironment(launch);
  for (std::string& argument : arguments_) argv_.push_back(argument.data());
  argv_.push_back(nullptr);
  for (std::string& variable : environment_) envp_.push_back(variable.data());
  envp_.push_back(nullptr);
  SetWatcher(0);
}

void LaunchPlan::Place(const Launch& launch) {
  sources_ = launch.descriptors;
  if (!launch.links.empty()) first_link_ = static_cast<int>(sources_.size());
  for (const auto& link : launch.links) sources_.push_back(link.second);
  const size_t end = kFirst + sources_.size();
  place_.assign(end, -1);
  for (size_t i = 0; i < sources_.size(); ++i) {
    // The size of a negative one, which is no descriptor, is above all.
    if (static_cast<size_t>(sources_[i]) < end) {
      place_[static_cast<size_t>(sources_[i])] = static_cast<int>(i);
    }
  }
}

void LaunchPlan::FillEnvironment(const Launch& launch) {
  int number = kFirst + static_cast<int>(launch.descriptors.size());
  for (const auto& link : launch.links) {
    environment_.push_back(absl::StrCat(link.first, "=", number++));
  }
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    if (text.starts_with(variables::kListenPrefix) || text.starts_with(variables::kOwnPrefix)) {
      continue;
    }
    environment_.emplace_back(text);
  }
  environment_.insert(environment_.end(), launch.environment.begin(), launch.environment.end());
  if (!sources_.empty()) {
    environment_.push_back(absl::StrCat(variables::kListenFds, "=", sources_.size()));
  }
  environment_.push_back(absl::StrCat(variables::kWatcherPid, "=", kRoomForPid));
  environment_.push_back(absl::StrCat(variables::kListenPid, "=", kRoomForPid));
}

unsigned LaunchPlan::sources_end() const {
  int end = kFirst;
  for (const int source : sources_) end = std::max(end, source + 1);
  return static_cast<unsigned>(end);
}

void LaunchPlan::SetWatcher(pid_t pid) { WriteValue(pid, environment_[environment_.size() - 2]); }

int LaunchPlan::Execute(bool unblocks_signals) {
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (const int error = PutOnItsNumber(i); error != 0) return error;
  }
  CloseFrom(static_cast<unsigned>(kFirst + sources_.size()));
  WriteValue(getpid(), environment_.back());
  sigset_t none;
  sigemptyset(&none);
  if (unblocks_signals) sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(program_.c_str(), argv_.data(), envp_.data());
  if (errno == ENOENT && !otherwise_.empty()) {
    execve(otherwise_.c_str(), argv_.data(), envp_.data());
  }
  return errno;
}

void LaunchPlan::ExecuteOrExit() {
  SayNotExecuted(Execute(/*unblocks_signals=*/true));
  _exit(kExitNotExecuted);
}

int LaunchPlan::PutOnItsNumber(size_t i) {
  const int target = kFirst + static_cast<int>(i);
  int& source = sources_[i];
  if (source == target) return fcntl(target, F_SETFD, 0) == 0 ? 0 : errno;
  const int there = place_[static_cast<size_t>(target)];
  if (there >= 0) {
    // One more descriptor for a moment, above all numbers that are wanted.
    const int moved = fcntl(target, F_DUPFD_CLOEXEC, kFirst + static_cast<int>(sources_.size()));
    if (moved < 0) return errno;
    sources_[static_cast<size_t>(there)] = moved;
    place_[static_cast<size_t>(target)] = -1;
  }
  if (dup2(source, target) < 0) return errno;
  if (static_cast<size_t>(source) < place_.size()) place_[static_cast<size_t>(source)] = -1;
  close(source);
  source = target;
  return 0;
}

void LaunchPlan::SayNotExecuted(int error) const {
  if (first_link_ < 0) return;
  constexpr size_t kDigits = 3;
  std::array<char, sizeof(words::kNotExecuted) + kDigits> text = {};  // '=' instead of its zero
  std::memcpy(text.data(), words::kNotExecuted, sizeof(words::kNotExecuted) - 1);
  char* at = text.data() + sizeof(words::kNotExecuted) - 1;
  *at++ = '=';
  *at++ = static_cast<char>('0' + error / 100 % 10);
  *at++ = static_cast<char>('0' + error / 10 % 10);
  *at = static_cast<char>('0' + error % 10);
  send(sources_[static_cast<size_t>(first_link_)], text.data(), text.size(),
       MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace evermap
