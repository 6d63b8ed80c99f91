/* The registry for a virtual machine of Erlang: what evermap_nif.erl says, made of the plain C reader (evermap_reader.h).
 *
 * Everything lives in resources, so that the library can be replaced by a newer one while it is in use. None of it waits
 * for anybody: the file is read, and the locks are held for as long as that takes. Answers that may be large are made on
 * dirty schedulers.
 *
 * Thread safety: all functions may be called from any scheduler at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <erl_nif.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "evermap_reader.h"

/* A registry that cannot be opened is tried again after this time, so that those who ask often do not spend their time on
 * that. */
static const ErlNifTime retry_ms = 100;
/* Answers about more slots than this are made on a dirty scheduler: below, they take less than 100 microseconds. */
static const uint32_t slots_at_once_max = 512;
/* How often a list is made anew in which something changed while it was read. */
static const int lists_max = 8;

/* The registry of one mapper, over its restarts, upgrades and repairs. */
typedef struct {
  ErlNifRWLock* lock; /* of all but the counters */
  uint16_t port;
  char path[EVERMAP_READER_PATH_SIZE]; /* empty: the usual one */
  evermap_reader* reader;              /* null: cannot be read, and `error` says why */
  evermap_reader_error error;
  uint64_t serial; /* of the file that was opened last; grows */
  ErlNifTime tried_ms;
  _Atomic uint64_t hits;
  _Atomic uint64_t misses;
} registry_resource;

/* What a watcher has seen. Used by one process at a time; the lock is for those that do otherwise. */
typedef struct {
  ErlNifMutex* lock;
  evermap_reader_seen seen;
  uint64_t serial; /* of the file that was seen; 0: none */
} seen_resource;

/* An inotify descriptor for a process that wants to be told. */
typedef struct {
  ErlNifMutex* lock;
  int fd;          /* -1: closed */
  int file;        /* number of the watch on the file; -1: none */
  uint64_t serial; /* of the file that is watched */
  ErlNifMonitor owner;
} watch_resource;

static ErlNifResourceType* registry_type;
static ErlNifResourceType* seen_type;
static ErlNifResourceType* watch_type;

static ERL_NIF_TERM atom(ErlNifEnv* env, const char* name) { return enif_make_atom(env, name); }

static ERL_NIF_TERM make_bytes(ErlNifEnv* env, const char* bytes, size_t size) {
  ERL_NIF_TERM term;
  unsigned char* const to = enif_make_new_binary(env, size, &term);
  memcpy(to, bytes, size);
  return term;
}

static const char* reason_of(evermap_reader_status status) {
  switch (status) {
    case EVERMAP_READER_OK:
      return "ok";
    case EVERMAP_READER_NOT_FOUND:
      return "not_found";
    case EVERMAP_READER_NO_REGISTRY:
      return "no_registry";
    case EVERMAP_READER_OUTDATED:
      return "outdated";
    case EVERMAP_READER_NOT_TRUSTED:
      return "not_trusted";
    case EVERMAP_READER_DAMAGED:
      return "damaged";
    case EVERMAP_READER_UNKNOWN_LAYOUT:
      return "unknown_layout";
    case EVERMAP_READER_OTHER_NAMESPACE:
      return "other_namespace";
    case EVERMAP_READER_OTHER_BOOT:
      return "other_boot";
    case EVERMAP_READER_BUSY:
      return "busy";
    case EVERMAP_READER_SYSTEM:
      break;
  }
  return "system";
}

static ERL_NIF_TERM make_error(ErlNifEnv* env, evermap_reader_status status, const char* text) {
  return enif_make_tuple3(env, atom(env, "error"), atom(env, reason_of(status)),
                          make_bytes(env, text, strlen(text)));
}

static ERL_NIF_TERM make_errno(ErlNifEnv* env, const char* what, int code) {
  char text[256];
  char reason[128];
  snprintf(text, sizeof(text), "%s: %s", what, strerror_r(code, reason, sizeof(reason)));
  return make_error(env, EVERMAP_READER_SYSTEM, text);
}

/* ---- Registries ---- */

static bool is_current(const registry_resource* registry) {
  return registry->reader != NULL && evermap_reader_check(registry->reader) == EVERMAP_READER_OK;
}

/* REQUIRES: the lock is held for writing. */
static void open_anew(registry_resource* registry) {
  evermap_reader_close(registry->reader);
  registry->reader = registry->path[0] == '\0'
                         ? evermap_reader_open_port(registry->port, &registry->error)
                         : evermap_reader_open(registry->path, &registry->error);
  registry->tried_ms = enif_monotonic_time(ERL_NIF_MSEC);
  if (registry->reader != NULL) ++registry->serial;
}

/* Takes the lock for reading; false when there is no reader then. */
static bool lock_registry(registry_resource* registry, bool tries_now) {
  enif_rwlock_rlock(registry->lock);
  if (is_current(registry)) return true;
  enif_rwlock_runlock(registry->lock);
  enif_rwlock_rwlock(registry->lock);
  if (!is_current(registry)) {
    if (registry->reader != NULL || tries_now ||
        enif_monotonic_time(ERL_NIF_MSEC) - registry->tried_ms >= retry_ms) {
      open_anew(registry);
    }
  }
  enif_rwlock_rwunlock(registry->lock);
  enif_rwlock_rlock(registry->lock);
  return registry->reader != NULL;
}

static void unlock_registry(registry_resource* registry) { enif_rwlock_runlock(registry->lock); }

/* Why there is no reader. REQUIRES: the lock is held. */
static ERL_NIF_TERM make_problem(ErlNifEnv* env, const registry_resource* registry) {
  return make_error(env, registry->error.status, registry->error.text);
}

static ERL_NIF_TERM registry_new(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  unsigned port;
  ErlNifBinary path;
  if (!enif_get_uint(env, argv[0], &port) || port > UINT16_MAX ||
      !enif_inspect_binary(env, argv[1], &path) || path.size >= EVERMAP_READER_PATH_SIZE ||
      memchr(path.data, '\0', path.size) != NULL) {
    return enif_make_badarg(env);
  }
  registry_resource* const registry = enif_alloc_resource(registry_type, sizeof(*registry));
  memset(registry, 0, sizeof(*registry));
  registry->lock = enif_rwlock_create("evermap_registry");
  registry->port = (uint16_t)port;
  memcpy(registry->path, path.data, path.size);
  registry->tried_ms = enif_monotonic_time(ERL_NIF_MSEC) - retry_ms;
  const ERL_NIF_TERM term = enif_make_resource(env, registry);
  enif_release_resource(registry);
  return term;
}

static void registry_end(ErlNifEnv* env, void* object) {
  (void)env;
  registry_resource* const registry = object;
  evermap_reader_close(registry->reader);
  if (registry->lock != NULL) enif_rwlock_destroy(registry->lock);
}

static ERL_NIF_TERM make_entry(ErlNifEnv* env, const evermap_reader_node* node) {
  const ERL_NIF_TERM type = node->node_type == 77   ? atom(env, "normal")
                            : node->node_type == 72 ? atom(env, "hidden")
                                                    : enif_make_uint(env, node->node_type);
  const ERL_NIF_TERM fields[] = {
      enif_make_uint(env, node->slot),
      enif_make_uint64(env, node->id),
      make_bytes(env, node->name, node->name_size),
      enif_make_uint(env, node->port),
      enif_make_uint(env, node->creation),
      type,
      atom(env, node->state == EVERMAP_READER_LIVE ? "live" : "orphaned"),
      enif_make_int64(env, node->since_unix_ns),
      enif_make_uint(env, node->lowest_version),
      enif_make_uint(env, node->highest_version),
      enif_make_uint(env, node->protocol),
      make_bytes(env, node->extra, node->extra_size),
  };
  return enif_make_tuple_from_array(env, fields, sizeof(fields) / sizeof(fields[0]));
}

static ERL_NIF_TERM lookup(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  registry_resource* registry;
  ErlNifBinary name;
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry) ||
      !enif_inspect_iolist_as_binary(env, argv[1], &name)) {
    return enif_make_badarg(env);
  }
  evermap_reader_node node;
  evermap_reader_status status = EVERMAP_READER_SYSTEM;
  ERL_NIF_TERM problem = 0;
  if (lock_registry(registry, false)) {
    status = evermap_reader_lookup(registry->reader, (const char*)name.data, name.size, &node);
  } else {
    problem = make_problem(env, registry);
  }
  unlock_registry(registry);
  atomic_fetch_add_explicit(status == EVERMAP_READER_OK ? &registry->hits : &registry->misses, 1,
                            memory_order_relaxed);
  if (problem != 0) return problem;
  if (status == EVERMAP_READER_OK)
    return enif_make_tuple2(env, atom(env, "ok"), make_entry(env, &node));
  if (status == EVERMAP_READER_NOT_FOUND) return atom(env, "not_found");
  return make_error(env, status, "the registry cannot be read");
}

/* ---- Lists ---- */

typedef struct {
  ErlNifEnv* env;
  ERL_NIF_TERM list;
} list_context;

static void tell_name(void* context, uint32_t slot, const evermap_reader_node* node) {
  (void)slot;
  list_context* const made = context;
  if (node == NULL) return;
  const ERL_NIF_TERM name =
      enif_make_string_len(made->env, node->name, node->name_size, ERL_NIF_LATIN1);
  made->list = enif_make_list_cell(
      made->env, enif_make_tuple2(made->env, name, enif_make_uint(made->env, node->port)),
      made->list);
}

static void tell_entry(void* context, uint32_t slot, const evermap_reader_node* node) {
  list_context* const made = context;
  const ERL_NIF_TERM entry = node == NULL
                                 ? enif_make_tuple2(made->env, enif_make_uint(made->env, slot),
                                                    enif_make_atom(made->env, "gone"))
                                 : make_entry(made->env, node);
  made->list = enif_make_list_cell(made->env, entry, made->list);
}

/* Whether an answer about all slots is too large for a scheduler. REQUIRES: the lock is held, and there is a reader. */
static bool is_large(const registry_resource* registry) {
  evermap_reader_facts facts;
  return evermap_reader_get_facts(registry->reader, &facts) == EVERMAP_READER_OK &&
         facts.slots_used > slots_at_once_max;
}

static ERL_NIF_TERM list_now(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  registry_resource* registry;
  char kind[16];
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry) ||
      enif_get_atom(env, argv[1], kind, sizeof(kind), ERL_NIF_LATIN1) <= 0) {
    return enif_make_badarg(env);
  }
  if (!lock_registry(registry, false)) {
    const ERL_NIF_TERM problem = make_problem(env, registry);
    unlock_registry(registry);
    return problem;
  }
  list_context made = {env, 0};
  evermap_reader_status status = EVERMAP_READER_BUSY;
  for (int i = 0; i < lists_max && status == EVERMAP_READER_BUSY; ++i) {
    evermap_reader_seen seen = {NULL, 0};
    made.list = enif_make_list(env, 0);
    status = evermap_reader_changes(registry->reader, &seen,
                                    strcmp(kind, "names") == 0 ? tell_name : tell_entry, &made);
    evermap_reader_forget(&seen);
  }
  unlock_registry(registry);
  if (status == EVERMAP_READER_OK) return enif_make_tuple2(env, atom(env, "ok"), made.list);
  return make_error(env, status, "the registry cannot be read");
}

static ERL_NIF_TERM list(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  registry_resource* registry;
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry))
    return enif_make_badarg(env);
  const bool large = lock_registry(registry, false) && is_large(registry);
  unlock_registry(registry);
  if (!large) return list_now(env, argc, argv);
  return enif_schedule_nif(env, "list", ERL_NIF_DIRTY_JOB_IO_BOUND, list_now, argc, argv);
}

/* ---- Changes ---- */

static ERL_NIF_TERM seen_new(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  (void)argv;
  seen_resource* const seen = enif_alloc_resource(seen_type, sizeof(*seen));
  memset(seen, 0, sizeof(*seen));
  seen->lock = enif_mutex_create("evermap_seen");
  const ERL_NIF_TERM term = enif_make_resource(env, seen);
  enif_release_resource(seen);
  return term;
}

static void seen_end(ErlNifEnv* env, void* object) {
  (void)env;
  seen_resource* const seen = object;
  evermap_reader_forget(&seen->seen);
  if (seen->lock != NULL) enif_mutex_destroy(seen->lock);
}

/* REQUIRES: the lock of the registry is held, and there is a reader. */
static ERL_NIF_TERM changes_of(ErlNifEnv* env, const registry_resource* registry,
                               seen_resource* seen) {
  list_context made = {env, enif_make_list(env, 0)};
  const bool is_fresh = seen->serial != registry->serial;
  if (is_fresh) evermap_reader_forget(&seen->seen);
  const evermap_reader_status status =
      evermap_reader_changes(registry->reader, &seen->seen, tell_entry, &made);
  if (status != EVERMAP_READER_OK && status != EVERMAP_READER_BUSY) {
    /* What was told so far is not passed on. */
    seen->serial = 0;
    return make_error(env, status, "the registry cannot be read");
  }
  seen->serial = registry->serial;
  return enif_make_tuple3(env, atom(env, reason_of(status)), atom(env, is_fresh ? "true" : "false"),
                          made.list);
}

static ERL_NIF_TERM changes_now(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  registry_resource* registry;
  seen_resource* seen;
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry) ||
      !enif_get_resource(env, argv[1], seen_type, (void**)&seen)) {
    return enif_make_badarg(env);
  }
  const bool is_there = lock_registry(registry, true);
  ERL_NIF_TERM result;
  if (is_there) {
    enif_mutex_lock(seen->lock);
    result = changes_of(env, registry, seen);
    enif_mutex_unlock(seen->lock);
  } else {
    result = make_problem(env, registry);
  }
  unlock_registry(registry);
  return result;
}

static ERL_NIF_TERM changes(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  registry_resource* registry;
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry))
    return enif_make_badarg(env);
  const bool large = lock_registry(registry, true) && is_large(registry);
  unlock_registry(registry);
  if (!large) return changes_now(env, argc, argv);
  return enif_schedule_nif(env, "changes", ERL_NIF_DIRTY_JOB_IO_BOUND, changes_now, argc, argv);
}

static ERL_NIF_TERM facts(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  registry_resource* registry;
  if (!enif_get_resource(env, argv[0], registry_type, (void**)&registry))
    return enif_make_badarg(env);
  ERL_NIF_TERM result;
  if (!lock_registry(registry, true)) {
    result = make_problem(env, registry);
  } else {
    evermap_reader_facts found;
    const evermap_reader_status status = evermap_reader_get_facts(registry->reader, &found);
    if (status == EVERMAP_READER_OK) {
      const char* const path = evermap_reader_path(registry->reader);
      const ERL_NIF_TERM fields[] = {
          atom(env, "ok"),
          make_bytes(env, path, strlen(path)),
          enif_make_uint(env, found.port),
          enif_make_uint(env, found.layout_version),
          enif_make_uint(env, found.capacity),
          enif_make_uint64(env, found.generation),
          enif_make_uint(env, found.mapper_pid),
          make_bytes(env, found.mapper_version, strlen(found.mapper_version)),
          enif_make_int64(env, found.started_unix_ns),
          enif_make_uint64(env, atomic_load(&registry->hits)),
          enif_make_uint64(env, atomic_load(&registry->misses)),
      };
      result = enif_make_tuple_from_array(env, fields, sizeof(fields) / sizeof(fields[0]));
    } else {
      result = make_error(env, status, "the registry cannot be read");
    }
  }
  unlock_registry(registry);
  return result;
}

/* ---- Being told ---- */

static void watch_close_descriptor(ErlNifEnv* env, watch_resource* watch) {
  enif_mutex_lock(watch->lock);
  const int fd = watch->fd;
  watch->fd = -1;
  enif_mutex_unlock(watch->lock);
  /* It is closed when no scheduler looks at it any more (watch_stop). */
  if (fd >= 0) enif_select(env, fd, ERL_NIF_SELECT_STOP, watch, NULL, atom(env, "undefined"));
}

static void watch_stop(ErlNifEnv* env, void* object, ErlNifEvent event, int is_direct_call) {
  (void)env;
  (void)object;
  (void)is_direct_call;
  close(event);
}

static void watch_owner_down(ErlNifEnv* env, void* object, ErlNifPid* pid, ErlNifMonitor* monitor) {
  (void)pid;
  (void)monitor;
  watch_close_descriptor(env, object);
}

static void watch_end(ErlNifEnv* env, void* object) {
  (void)env;
  watch_resource* const watch = object;
  if (watch->fd >= 0) close(watch->fd);
  if (watch->lock != NULL) enif_mutex_destroy(watch->lock);
}

static ERL_NIF_TERM watch_new(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  (void)argv;
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return make_errno(env, "no inotify descriptor to be had", errno);
  watch_resource* const watch = enif_alloc_resource(watch_type, sizeof(*watch));
  memset(watch, 0, sizeof(*watch));
  watch->lock = enif_mutex_create("evermap_watch");
  watch->fd = fd;
  watch->file = -1;
  ErlNifPid self;
  enif_self(env, &self);
  const bool is_owned = enif_monitor_process(env, watch, &self, &watch->owner) == 0;
  const ERL_NIF_TERM term = enif_make_resource(env, watch);
  enif_release_resource(watch);
  if (!is_owned) return make_error(env, EVERMAP_READER_SYSTEM, "its process has ended");
  return enif_make_tuple2(env, atom(env, "ok"), term);
}

/* Watches the directories in which a registry may come. REQUIRES: both locks are held. */
static void watch_directories(const registry_resource* registry, const watch_resource* watch) {
  char paths[EVERMAP_READER_CANDIDATES_MAX][EVERMAP_READER_PATH_SIZE];
  int count = 1;
  if (registry->path[0] == '\0') {
    count = evermap_reader_candidates(registry->port, paths);
  } else {
    memcpy(paths[0], registry->path, sizeof(paths[0]));
  }
  for (int i = 0; i < count; ++i) {
    char* const slash = strrchr(paths[i], '/');
    if (slash == NULL) continue;
    slash[slash == paths[i] ? 1 : 0] = '\0';
    /* One that is not there, or may not be read, is found out about by looking from time to time. */
    inotify_add_watch(watch->fd, paths[i], IN_CREATE | IN_MOVED_TO | IN_ONLYDIR | IN_MASK_ADD);
  }
}

/* REQUIRES: both locks are held. An errno, or 0. Sets whether it is another file than before. */
static int watch_file(const registry_resource* registry, watch_resource* watch, bool* is_new) {
  static const uint32_t mask = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF;
  if (registry->reader == NULL) return ENOENT;
  if (watch->file >= 0 && watch->serial == registry->serial) return 0;
  if (watch->file >= 0) inotify_rm_watch(watch->fd, watch->file);
  /* The file that is open, whatever has its name now. */
  char name[32];
  snprintf(name, sizeof(name), "/proc/self/fd/%d", evermap_reader_fd(registry->reader));
  watch->file = inotify_add_watch(watch->fd, name, mask);
  if (watch->file < 0)
    watch->file = inotify_add_watch(watch->fd, evermap_reader_path(registry->reader), mask);
  if (watch->file < 0) return errno;
  watch->serial = registry->serial;
  *is_new = true;
  return 0;
}

static ERL_NIF_TERM watch_registry(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  registry_resource* registry;
  watch_resource* watch;
  if (!enif_get_resource(env, argv[0], watch_type, (void**)&watch) ||
      !enif_get_resource(env, argv[1], registry_type, (void**)&registry)) {
    return enif_make_badarg(env);
  }
  lock_registry(registry, true);
  enif_mutex_lock(watch->lock);
  int code = EBADF;
  bool is_new = false;
  if (watch->fd >= 0) {
    watch_directories(registry, watch);
    code = watch_file(registry, watch, &is_new);
  }
  enif_mutex_unlock(watch->lock);
  unlock_registry(registry);
  if (code != 0) return make_errno(env, "the registry cannot be watched", code);
  return atom(env, is_new ? "changed" : "ok");
}

static ERL_NIF_TERM watch_arm(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  watch_resource* watch;
  if (!enif_get_resource(env, argv[0], watch_type, (void**)&watch)) return enif_make_badarg(env);
  enif_mutex_lock(watch->lock);
  int result = -1;
  if (watch->fd >= 0) {
    result = enif_select(env, watch->fd, ERL_NIF_SELECT_READ, watch, NULL, atom(env, "undefined"));
  }
  enif_mutex_unlock(watch->lock);
  return result >= 0 ? atom(env, "ok")
                     : make_error(env, EVERMAP_READER_SYSTEM, "the watch is closed");
}

static ERL_NIF_TERM watch_drain(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  watch_resource* watch;
  if (!enif_get_resource(env, argv[0], watch_type, (void**)&watch)) return enif_make_badarg(env);
  char events[4096];
  enif_mutex_lock(watch->lock);
  /* Whatever they say: what has changed is found out by looking. The kernel keeps 16,384 at most. */
  for (int i = 0; i < 256 && watch->fd >= 0 && read(watch->fd, events, sizeof(events)) > 0; ++i) {
  }
  enif_mutex_unlock(watch->lock);
  return atom(env, "ok");
}

static ERL_NIF_TERM watch_close(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  watch_resource* watch;
  if (!enif_get_resource(env, argv[0], watch_type, (void**)&watch)) return enif_make_badarg(env);
  watch_close_descriptor(env, watch);
  return atom(env, "ok");
}

/* ---- Addresses ---- */

/* Whether the kernel would send from the very address that it would send to: then it is one of this
 * host. The other way round it need not be, for the second address of an interface. */
static bool is_own_source(int family, const void* address, uint8_t size) {
  struct sockaddr_in of4 = {.sin_family = AF_INET, .sin_port = htons(9)};
  struct sockaddr_in6 of6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
  struct sockaddr* const to = family == AF_INET ? (struct sockaddr*)&of4 : (struct sockaddr*)&of6;
  socklen_t to_size = family == AF_INET ? sizeof(of4) : sizeof(of6);
  unsigned char* const bytes =
      family == AF_INET ? (unsigned char*)&of4.sin_addr : (unsigned char*)&of6.sin6_addr;
  memcpy(bytes, address, size);
  const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  /* Sends nothing. */
  const bool is_own = connect(fd, to, to_size) == 0 && getsockname(fd, to, &to_size) == 0 &&
                      memcmp(bytes, address, size) == 0;
  close(fd);
  return is_own;
}

/* Asks the kernel for the route to an address: to one of this host it is of type local. */
static bool is_local_route(int family, const void* address, uint8_t size) {
  struct {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attribute;
    unsigned char address[16];
  } request = {0};
  struct {
    struct nlmsghdr head;
    struct rtmsg route;
    char rest[2048];
  } reply;
  request.head.nlmsg_len =
      (uint32_t)(NLMSG_LENGTH(sizeof(request.route)) + RTA_LENGTH((size_t)size));
  request.head.nlmsg_type = RTM_GETROUTE;
  request.head.nlmsg_flags = NLM_F_REQUEST;
  request.route.rtm_family = (unsigned char)family;
  request.route.rtm_dst_len = (unsigned char)(size * 8);
  request.attribute.rta_type = RTA_DST;
  request.attribute.rta_len = (unsigned short)RTA_LENGTH((size_t)size);
  memcpy(request.address, address, size);
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return false;
  /* The kernel has answered when send() returns. */
  const bool is_answered =
      send(fd, &request, request.head.nlmsg_len, 0) == (ssize_t)request.head.nlmsg_len &&
      recv(fd, &reply, sizeof(reply), MSG_DONTWAIT) >= (ssize_t)NLMSG_LENGTH(sizeof(reply.route));
  close(fd);
  return is_answered && reply.head.nlmsg_type == RTM_NEWROUTE && reply.route.rtm_type == RTN_LOCAL;
}

static ERL_NIF_TERM is_own_address(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  ErlNifBinary address;
  if (!enif_inspect_binary(env, argv[0], &address) || (address.size != 4 && address.size != 16)) {
    return enif_make_badarg(env);
  }
  const int family = address.size == 4 ? AF_INET : AF_INET6;
  const uint8_t size = (uint8_t)address.size;
  /* The second takes ten times as long. */
  const bool is_own =
      is_own_source(family, address.data, size) || is_local_route(family, address.data, size);
  return atom(env, is_own ? "true" : "false");
}

/* ---- The library ---- */

static int open_types(ErlNifEnv* env) {
  const ErlNifResourceFlags flags = ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER;
  const ErlNifResourceTypeInit of_registry = {.dtor = registry_end};
  const ErlNifResourceTypeInit of_seen = {.dtor = seen_end};
  const ErlNifResourceTypeInit of_watch = {
      .dtor = watch_end, .stop = watch_stop, .down = watch_owner_down};
  registry_type = enif_open_resource_type_x(env, "evermap_registry", &of_registry, flags, NULL);
  seen_type = enif_open_resource_type_x(env, "evermap_seen", &of_seen, flags, NULL);
  watch_type = enif_open_resource_type_x(env, "evermap_watch", &of_watch, flags, NULL);
  return registry_type != NULL && seen_type != NULL && watch_type != NULL ? 0 : 1;
}

static int load(ErlNifEnv* env, void** data, ERL_NIF_TERM info) {
  (void)data;
  (void)info;
  return open_types(env);
}

static int upgrade(ErlNifEnv* env, void** data, void** old_data, ERL_NIF_TERM info) {
  (void)data;
  (void)old_data;
  (void)info;
  return open_types(env);
}

static ErlNifFunc functions[] = {
    {"registry_new", 2, registry_new, 0},
    {"lookup", 2, lookup, 0},
    {"list", 2, list, 0},
    {"seen_new", 0, seen_new, 0},
    {"changes", 2, changes, 0},
    {"facts", 1, facts, 0},
    {"watch_new", 0, watch_new, 0},
    {"watch_registry", 2, watch_registry, 0},
    {"watch_arm", 1, watch_arm, 0},
    {"watch_drain", 1, watch_drain, 0},
    {"watch_close", 1, watch_close, 0},
    {"is_own_address", 1, is_own_address, 0},
};

ERL_NIF_INIT(evermap_nif, functions, load, NULL, upgrade, NULL)
