#include "registry/evermap.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "registry/location.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/watch.h"

struct evermap_registry {
  std::unique_ptr<evermap::Reader> reader;
};

struct evermap_watch {
  std::unique_ptr<evermap::RegistryWatch> watch;
};

namespace {

static_assert(EVERMAP_NAME_SIZE_MAX == evermap::kRegistryNameSizeMax);
static_assert(EVERMAP_EXTRA_SIZE_MAX == evermap::kRegistryExtraSizeMax);
static_assert(EVERMAP_LIVE == static_cast<int>(evermap::RegistrationState::kLive));
static_assert(EVERMAP_ORPHANED == static_cast<int>(evermap::RegistrationState::kOrphaned));
static_assert(EVERMAP_REMEMBERED == static_cast<int>(evermap::RegistrationState::kRemembered));
// Part of the interface of version 1.
static_assert(sizeof(evermap_node) == 2096);

void CopyLine(const std::string& line, char* error) {
  if (error != nullptr) std::snprintf(error, EVERMAP_ERROR_SIZE, "%s", line.c_str());
}

void Copy(const evermap::Registration& from, evermap_node& to) {
  to.id = from.id;
  to.since_unix_ns = from.state == evermap::RegistrationState::kRemembered ? from.left_unix_ns
                                                                           : from.since_unix_ns;
  to.creation = from.creation;
  to.owner_uid = from.owner_uid;
  to.owner_pid = from.owner_pid;
  to.port = from.port;
  to.highest_version = from.highest_version;
  to.lowest_version = from.lowest_version;
  to.name_size = from.name_size;
  to.extra_size = from.extra_size;
  to.node_type = from.node_type;
  to.protocol = from.protocol;
  to.state = static_cast<uint8_t>(from.state);
  std::memset(to.reserved, 0, sizeof(to.reserved));
  std::memcpy(to.name, from.name_bytes, from.name_size);
  to.name[from.name_size] = '\0';
  std::memcpy(to.extra, from.extra_bytes, from.extra_size);
  to.extra[from.extra_size] = '\0';
}

}  // namespace

#pragma GCC visibility push(default)

evermap_registry* evermap_open(const char* path, char* error) {
  std::string problem;
  std::unique_ptr<evermap::Reader> reader = evermap::Reader::Open(path, problem);
  if (reader == nullptr) {
    CopyLine(problem, error);
    return nullptr;
  }
  return new evermap_registry{std::move(reader)};
}

void evermap_close(evermap_registry* registry) { delete registry; }

int evermap_lookup(const evermap_registry* registry, const char* name, size_t name_size,
                   evermap_node* node) {
  evermap::Registration found;
  if (!registry->reader->view().Lookup(std::string_view(name, name_size), found)) return 0;
  Copy(found, *node);
  return 1;
}

int evermap_next(const evermap_registry* registry, uint32_t* at, evermap_node* node) {
  evermap::Registration found;
  const evermap::RegistryView& view = registry->reader->view();
  while (*at < view.slots_used()) {
    if (!view.ReadSlot((*at)++, found)) continue;
    Copy(found, *node);
    return 1;
  }
  return 0;
}

uint64_t evermap_generation(const evermap_registry* registry) {
  return registry->reader->view().generation();
}

int evermap_superseded(const evermap_registry* registry) {
  return registry->reader->view().superseded() ? 1 : 0;
}

size_t evermap_usual_path(uint16_t port, char* path, size_t size) {
  const std::string usual = evermap::UsualRegistryPath(port, evermap::Preference::kOwn);
  if (size > 0) std::snprintf(path, size, "%s", usual.c_str());
  return usual.size();
}

evermap_watch* evermap_watch_open(const char* path, char* error) {
  std::string problem;
  std::unique_ptr<evermap::RegistryWatch> watch = evermap::RegistryWatch::Open(path, problem);
  const int number = errno;
  if (watch != nullptr) return new evermap_watch{std::move(watch)};
  CopyLine(problem, error);
  errno = number;
  return nullptr;
}

int evermap_watch_fd(const evermap_watch* watch) { return watch->watch->fd(); }

int evermap_watch_take(evermap_watch* watch) {
  const evermap::RegistryWatch::News news = watch->watch->Take();
  if (news.error != 0) {
    errno = news.error;
    return -1;
  }
  return (news.is_changed ? EVERMAP_NEWS_CHANGED : 0) |
         (news.is_replaced ? EVERMAP_NEWS_REPLACED : 0);
}

void evermap_watch_close(evermap_watch* watch) { delete watch; }

int evermap_tells_changes(const evermap_registry* registry) {
  return registry->reader->view().tells_changes() ? 1 : 0;
}

#pragma GCC visibility pop
