#include "registry/status.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "registry/base/owned_fd.h"
#include "registry/layout.h"
#include "registry/siphash.h"

namespace evermap {
namespace {

using layout::Load;
using layout::StatusCopy;
using layout::StatusNote;
using layout::Store;
using layout::Word;
using Words = std::array<uint64_t, layout::kStatusWords>;

// A note is written a few times in the life of a mapper, so one that changes under a reader's eyes
// this often is damaged.
constexpr int kReadsMax = 16;
// Guards against torn copies, not against forgers: it is no secret.
constexpr SipHashKey kChecksumKey{0x6576657267726565, 0x6e2d737461747573};

// Words of a mapper's note: pid and workers, start, started, descriptors, sizes of the texts (16
// bits each), and the texts.
constexpr size_t kVersionAt = 5;
constexpr size_t kLoopAt = kVersionAt + kStatusVersionSizeMax / 8;
constexpr size_t kCustodyAt = kLoopAt + kStatusLoopSizeMax / 8;
static_assert(kCustodyAt + kStatusCustodySizeMax / 8 == layout::kStatusWords);
// Words of an upgrade's note: number, time, outcome (8 bits) and size of the text, and the text.
constexpr size_t kUpgradeTextAt = 3;
static_assert(kUpgradeTextAt + (kStatusUpgradeTextSizeMax + 7) / 8 <= layout::kStatusWords);

uint64_t Checksum(uint64_t number, const Words& words) {
  std::array<char, (layout::kStatusWords + 1) * 8> bytes;
  std::memcpy(bytes.data(), &number, 8);
  std::memcpy(bytes.data() + 8, words.data(), sizeof(words));
  return SipHash<1, 3>(kChecksumKey, {bytes.data(), bytes.size()});
}

void Write(const Words& words, StatusNote& note) {
  uint64_t number = 0;
  do {
    number = note.last_number.fetch_add(1, std::memory_order_acq_rel) + 1;
  } while (number == 0);
  StatusCopy& copy = note.copies[number % layout::kStatusCopies];
  Store(copy.number, 0);
  for (size_t i = 0; i < words.size(); ++i) Store(copy.words[i], words[i]);
  Store(copy.checksum, Checksum(number, words));
  Store(copy.number, number);
}

// All zero when there is no valid copy.
Words Read(const StatusNote& note) {
  Words newest = {};
  for (int i = 0; i < kReadsMax; ++i) {
    const uint64_t last_number = Load(note.last_number);
    uint64_t newest_number = 0;
    for (const StatusCopy& copy : note.copies) {
      const uint64_t number = Load(copy.number);
      if (number <= newest_number) continue;
      Words words;
      for (size_t w = 0; w < words.size(); ++w) words[w] = Load(copy.words[w]);
      if (Load(copy.checksum) != Checksum(number, words)) continue;
      newest_number = number;
      newest = words;
    }
    // While numbers are taken, the newest copy may be one that was looked at too early.
    if (Load(note.last_number) == last_number && (newest_number != 0 || last_number == 0)) break;
  }
  return newest;
}

void PutText(std::string_view text, size_t size_max, uint64_t* words) {
  std::memcpy(words, text.data(), std::min(text.size(), size_max));
}

std::string TextOf(const uint64_t* words, uint64_t size, size_t size_max) {
  std::string text(std::min<uint64_t>(size, size_max), '\0');
  std::memcpy(text.data(), words, text.size());
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

// When the process was started; 0 when none of that id runs that /proc shows. Nothing when that cannot
// be told now, as without a descriptor.
std::optional<uint64_t> ToldStartTicks(pid_t pid) {
  if (pid <= 0) return 0;
  const OwnedFd fd(open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t size = fd.valid() ? read(fd.get(), text, sizeof(text) - 1) : -1;
  if (size < 0 && errno != ENOENT && errno != ESRCH) return std::nullopt;
  if (size <= 0) return 0;
  text[size] = '\0';
  // Field 2 is the program's name in parentheses, with anything in it.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') return 0;
  for (int field = 2; field < 22; ++field) {
    at = std::strchr(at + 1, ' ');
    if (at == nullptr) return 0;
  }
  return std::strtoull(at, nullptr, 10);
}

}  // namespace

MapperStatus ReadMapperStatus(const StatusNote& note) {
  const Words words = Read(note);
  MapperStatus status;
  status.pid = layout::LowHalf(words[0]);
  status.workers = layout::HighHalf(words[0]);
  status.start_ticks = words[1];
  status.started_unix_ns = static_cast<int64_t>(words[2]);
  status.descriptors_max = words[3];
  status.version = TextOf(&words[kVersionAt], words[4] & 0xffff, kStatusVersionSizeMax);
  status.loop = TextOf(&words[kLoopAt], (words[4] >> 16) & 0xffff, kStatusLoopSizeMax);
  status.custody = TextOf(&words[kCustodyAt], (words[4] >> 32) & 0xffff, kStatusCustodySizeMax);
  return status;
}

void WriteMapperStatus(const MapperStatus& status, StatusNote& note) {
  Words words = {};
  words[0] = layout::Halves(status.pid, status.workers);
  words[1] = status.start_ticks;
  words[2] = static_cast<uint64_t>(status.started_unix_ns);
  words[3] = status.descriptors_max;
  words[4] = std::min(status.version.size(), kStatusVersionSizeMax) |
             std::min(status.loop.size(), kStatusLoopSizeMax) << 16 |
             std::min(status.custody.size(), kStatusCustodySizeMax) << 32;
  PutText(status.version, kStatusVersionSizeMax, &words[kVersionAt]);
  PutText(status.loop, kStatusLoopSizeMax, &words[kLoopAt]);
  PutText(status.custody, kStatusCustodySizeMax, &words[kCustodyAt]);
  Write(words, note);
}

UpgradeStatus ReadUpgradeStatus(const StatusNote& note) {
  using Outcome = UpgradeStatus::Outcome;
  const Words words = Read(note);
  UpgradeStatus status;
  status.number = words[0];
  status.unix_ns = static_cast<int64_t>(words[1]);
  const uint64_t outcome = words[2] & 0xff;
  if (outcome <= static_cast<uint64_t>(Outcome::kFailed)) {
    status.outcome = static_cast<Outcome>(outcome);
  }
  status.text = TextOf(&words[kUpgradeTextAt], words[2] >> 8, kStatusUpgradeTextSizeMax);
  return status;
}

void WriteUpgradeStatus(const UpgradeStatus& status, StatusNote& note) {
  Words words = {};
  words[0] = status.number;
  words[1] = static_cast<uint64_t>(status.unix_ns);
  words[2] = static_cast<uint64_t>(status.outcome) |
             std::min(status.text.size(), kStatusUpgradeTextSizeMax) << 8;
  PutText(status.text, kStatusUpgradeTextSizeMax, &words[kUpgradeTextAt]);
  Write(words, note);
}

uint64_t ProcessStartTicks(pid_t pid) { return ToldStartTicks(pid).value_or(0); }

bool IsRunning(const MapperStatus& status) {
  const pid_t pid = static_cast<pid_t>(status.pid);
  if (pid <= 0) return false;
  // Where it runs there is no /proc, or it did not find itself there.
  const std::optional<uint64_t> start_ticks =
      status.start_ticks == 0 ? std::nullopt : ToldStartTicks(pid);
  if (start_ticks.value_or(0) != 0) return *start_ticks == status.start_ticks;
  // Hidden even from its own user, when the caller is in another user namespace (systemd's
  // ProtectProc= with PrivateUsers=): then kill(2) succeeds.
  const bool is_told =
      start_ticks.has_value() && access(("/proc/" + std::to_string(pid)).c_str(), F_OK) == 0;
  return !is_told && (kill(pid, 0) == 0 || errno == EPERM);
}

}  // namespace evermap
