/* The registry of an Evermap port mapper, for programs in C and whatever can call C.
 *
 *   char error[EVERMAP_ERROR_SIZE];
 *   evermap_registry *registry = evermap_open("/run/evermap/registry.4369", error);
 *   if (registry == NULL) { fprintf(stderr, "%s\n", error); exit(1); }
 *   evermap_node node;
 *   if (evermap_lookup(registry, "rabbit", 6, &node)) connect_to(node.port);
 *   for (uint32_t at = 0; evermap_next(registry, &at, &node);) printf("%s\n", node.name);
 *   evermap_close(registry);
 *
 * To be told of changes instead of polling, see evermap_watch_open().
 *
 * A lookup takes some hundred nanoseconds: it reads shared memory and makes no system call, but for
 * one when it is the first that meets a node in a part that the file has got since. It works while
 * the mapper restarts, and, with what was known last, while none runs.
 *
 * Thread safety: everything but evermap_close() may be called by any number of threads at once.
 * An open registry goes on to show what the mapper knows, over its restarts and upgrades, as long
 * as the file is not removed and evermap_superseded() is 0.
 */
#ifndef EVERMAP_REGISTRY_EVERMAP_H_
#define EVERMAP_REGISTRY_EVERMAP_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVERMAP_ERROR_SIZE 512      /* bytes, with the final NUL */
#define EVERMAP_NAME_SIZE_MAX 1020  /* bytes of UTF-8 */
#define EVERMAP_EXTRA_SIZE_MAX 1020 /* bytes */

typedef struct evermap_registry evermap_registry;

enum evermap_state {
  EVERMAP_LIVE = 0,       /* registered */
  EVERMAP_ORPHANED = 1,   /* registered, but its connection to the mapper was lost */
  EVERMAP_REMEMBERED = 2, /* unregistered; its last port and creation are known */
};

typedef struct evermap_node {
  uint64_t id;           /* of the registration, never 0, never used again */
  int64_t since_unix_ns; /* when it registered; EVERMAP_REMEMBERED: when it left */
  uint32_t creation;
  uint32_t owner_uid; /* user who made the node's connection to the mapper; ~0 when not known, as
                         in the first second of a registration */
  uint32_t owner_pid; /* 0: not known. The mapper of this release does not fill it in; epmdctl
                         finds the process behind the port on which the node listens */
  uint16_t port;
  uint16_t highest_version;
  uint16_t lowest_version;
  uint16_t name_size;  /* bytes, without the final NUL */
  uint16_t extra_size; /* bytes, without the final NUL; EVERMAP_REMEMBERED: 0 */
  uint8_t node_type;   /* 77 normal, 72 hidden */
  uint8_t protocol;    /* 0 TCP/IPv4 */
  uint8_t state;       /* enum evermap_state */
  uint8_t reserved[7];
  char name[EVERMAP_NAME_SIZE_MAX + 4];   /* ends with NUL */
  char extra[EVERMAP_EXTRA_SIZE_MAX + 4]; /* ends with NUL, may have others in it */
} evermap_node;

/* Opens the registry at `path`. NULL when that cannot be done; `error` (EVERMAP_ERROR_SIZE bytes,
 * or NULL) then holds one line that says why and what to do. To be closed by the caller. */
evermap_registry* evermap_open(const char* path, char* error);

/* Does nothing with NULL. */
void evermap_close(evermap_registry* registry);

/* 1 and fills `node` when a live or orphaned node has this name, of `name_size` bytes; else 0. */
int evermap_lookup(const evermap_registry* registry, const char* name, size_t name_size,
                   evermap_node* node);

/* 1 and fills `node` with the next node of any state, from position `*at` on, which it advances; 0
 * at the end. Begin with 0. Each node is consistent by itself; all together only if
 * evermap_generation() is the same before and after. */
int evermap_next(const evermap_registry* registry, uint32_t* at, evermap_node* node);

/* Changes whenever a node comes or goes. */
uint64_t evermap_generation(const evermap_registry* registry);

/* 1 when another file has taken the place of this one, which is what it was at that moment and will
 * not change any more: the mapper was upgraded to another layout of the file. Close it and open the
 * path again. Else 0. Costs one load: ask before each use, or every second. */
int evermap_superseded(const evermap_registry* registry);

/* Writes the path at which a mapper on `port` keeps its registry when nobody has named another into
 * `path`, of `size` bytes: that of the mapper that this user runs if there is one, else that of the
 * system's service. Returns its length; the path is cut off when that is not below `size`. Which one it
 * is may change as long as none can be opened, so ask again before each attempt. */
size_t evermap_usual_path(uint16_t port, char* path, size_t size);

/* Waiting for changes of a registry:
 *
 *   evermap_watch *watch = evermap_watch_open(path, error);      first, so that nothing is missed
 *   evermap_registry *registry = evermap_open(path, error);      may be NULL until a mapper starts
 *   for (;;) {
 *     ... read the registry; the first time, and whenever there is news ...
 *     struct pollfd waited = {evermap_watch_fd(watch), POLLIN, 0};
 *     poll(&waited, 1, registry != NULL && evermap_tells_changes(registry) ? -1 : 1000);
 *     int news = evermap_watch_take(watch);
 *     if (news < 0 || (news & EVERMAP_NEWS_REPLACED)) {
 *       evermap_close(registry);
 *       registry = evermap_open(path, error);
 *     }
 *   }
 *
 * Each change is told, at most a millisecond or two later; several may be told as one, and a change that
 * is told may have been read already. While no mapper runs nothing changes, and nothing is told; the next
 * one begins with a notice. A mapper that is upgraded to another layout, or puts its file back after
 * somebody has removed it, is news of the second kind.
 *
 * A watch belongs to one thread at a time. It takes nothing from other watches. The kernel bounds them by
 * user: fs.inotify.max_user_instances (128, as a rule), and fs.inotify.max_user_watches, of which a watch
 * takes two. */
typedef struct evermap_watch evermap_watch;

enum evermap_news {
  EVERMAP_NEWS_CHANGED =
      1, /* a node has come, gone, or got or lost its connection to the mapper; or
                                the mapper says something of itself. Read again */
  EVERMAP_NEWS_REPLACED =
      2, /* another file may be at the path, or none. Open the path again, and read
                                again; what is open stays readable until it is closed */
};

/* Begins to watch `path`, where neither the file nor its directory need to be there yet. NULL when that is
 * not to be had: `errno` says why (EMFILE, ENOSPC: a bound of the kernel for this user is reached; EACCES:
 * the directory cannot be read), and `error` (EVERMAP_ERROR_SIZE bytes, or NULL) then holds one line with
 * the way out. Poll evermap_generation() then. To be closed by the caller. */
evermap_watch* evermap_watch_open(const char* path, char* error);

/* The descriptor to wait for with poll(2), epoll(7) and the like: readable when there is news, until
 * evermap_watch_take(). It stays the watch's; do not read from it. */
int evermap_watch_fd(const evermap_watch* watch);

/* What is new since the last call: a combination of enum evermap_news, 0 for nothing. Does not wait. -1
 * when what is at the path now cannot be watched; `errno` as for evermap_watch_open(). Then open the path
 * again and poll; each further call tries again. */
int evermap_watch_take(evermap_watch* watch);

/* Does nothing with NULL. */
void evermap_watch_close(evermap_watch* watch);

/* 1 when the mapper tells those who watch of changes. 0 when it is of release 0.1.0, or cannot
 * do it (its log says why): poll evermap_generation() then, and ask this again with it. Costs one load. */
int evermap_tells_changes(const evermap_registry* registry);

#ifdef __cplusplus
}
#endif

#endif /* EVERMAP_REGISTRY_EVERMAP_H_ */
