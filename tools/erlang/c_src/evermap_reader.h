/* Reads the registry of an Evermap port mapper from any program: two files of plain C11 that need nothing but the kernel
 * (Linux) and the C library, to be compiled into the program.
 *
 *   evermap_reader_error error;
 *   evermap_reader *reader = evermap_reader_open_port(4369, &error);
 *   if (reader == NULL) { fprintf(stderr, "%s\n", error.text); ask_over_tcp(); }
 *   evermap_reader_node node;
 *   if (evermap_reader_lookup(reader, "rabbit", 6, &node) == EVERMAP_READER_OK) connect_to(node.port);
 *   evermap_reader_close(reader);
 *
 * It differs from libevermap (evermap.h) in that nothing which happens to the file can hurt its program: it does not map
 * the file but reads it (pread), so a file that is cut short is an error and no SIGBUS, and reading never makes the file
 * take more memory. A lookup takes about a microsecond for that: four or five system calls.
 *
 * What it accepts: layout 3, of the caller's network namespace and of this boot, owned by root, by the caller or by who
 * owns its directory, and writable by nobody else. Layouts 1 and 2, of release 0.1.0, do not say to which network
 * namespace they belong, and so are as unknown to it as later ones are: whoever cannot read asks the mapper over TCP.
 *
 * Thread safety: one reader may be used by any number of threads at once, but not while it is closed. It keeps no lock,
 * and what it returns is the caller's.
 */
#ifndef EVERMAP_READER_H_
#define EVERMAP_READER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVERMAP_READER_NAME_SIZE_MAX 1020
#define EVERMAP_READER_EXTRA_SIZE_MAX 1020
#define EVERMAP_READER_PATH_SIZE \
  512 /* bytes of a path, with the final NUL; longer ones are not read */
#define EVERMAP_READER_TEXT_SIZE 768
#define EVERMAP_READER_CANDIDATES_MAX 8

typedef enum evermap_reader_status {
  EVERMAP_READER_OK = 0,
  EVERMAP_READER_NOT_FOUND,   /* the registry has no such node */
  EVERMAP_READER_NO_REGISTRY, /* there is no file */
  EVERMAP_READER_OUTDATED, /* the file was removed, or another one has taken its place: open it anew */
  EVERMAP_READER_NOT_TRUSTED,    /* by its owner, mode or type it could be anybody's */
  EVERMAP_READER_DAMAGED,        /* truncated, damaged, or no registry */
  EVERMAP_READER_UNKNOWN_LAYOUT, /* of an older or newer Evermap */
  EVERMAP_READER_OTHER_NAMESPACE, /* its ports are those of another network namespace, or nobody knows of which */
  EVERMAP_READER_OTHER_BOOT, /* its nodes ran before the machine was started */
  EVERMAP_READER_BUSY,       /* it changed all the time while it was read */
  EVERMAP_READER_SYSTEM,     /* a system call failed, or there is no memory */
} evermap_reader_status;

typedef struct evermap_reader_error {
  evermap_reader_status status;
  char text[EVERMAP_READER_TEXT_SIZE]; /* one line */
} evermap_reader_error;

typedef enum evermap_reader_state {
  EVERMAP_READER_LIVE = 0,     /* registered */
  EVERMAP_READER_ORPHANED = 1, /* registered, but its connection to the mapper was lost */
} evermap_reader_state;

typedef struct evermap_reader_node {
  uint64_t id;           /* of the registration, never 0; a later registration has a greater one */
  int64_t since_unix_ns; /* when it registered */
  uint32_t slot;         /* its place in the registry */
  uint32_t creation;
  uint32_t owner_uid; /* of the user who made the connection; ~0 when not known */
  uint16_t port;
  uint16_t highest_version; /* of the distribution protocol */
  uint16_t lowest_version;
  uint16_t name_size;                            /* bytes, without the final NUL */
  uint16_t extra_size;                           /* bytes, without the final NUL */
  uint8_t node_type;                             /* 77 normal, 72 hidden */
  uint8_t protocol;                              /* 0 TCP */
  uint8_t state;                                 /* evermap_reader_state */
  char name[EVERMAP_READER_NAME_SIZE_MAX + 4];   /* ends with NUL */
  char extra[EVERMAP_READER_EXTRA_SIZE_MAX + 4]; /* ends with NUL, may have others in it */
} evermap_reader_node;

typedef struct evermap_reader_facts {
  uint64_t generation; /* grows with each change */
  uint64_t last_id;    /* the greatest id of a registration so far */
  uint64_t inode;
  int64_t
      started_unix_ns; /* when the mapper that serves it, or served it last, began; 0: not known */
  uint32_t mapper_pid; /* its number in its own pid namespace; 0: not known */
  uint32_t layout_version;
  uint32_t capacity;       /* names at most */
  uint32_t slots_used;     /* each node's slot is below it */
  uint16_t port;           /* of the mapper */
  char mapper_version[36]; /* ends with NUL */
} evermap_reader_facts;

typedef struct evermap_reader evermap_reader;

/* Paths at which the registry of the mapper on `port` may be, in the order in which epmdctl looks for it; how many.
 * The environment must not be changed meanwhile. */
int evermap_reader_candidates(uint16_t port,
                              char paths[EVERMAP_READER_CANDIDATES_MAX][EVERMAP_READER_PATH_SIZE]);

/* Opens the registry of the mapper on `port`: of those at the usual paths the one whose mapper was started last, as
 * there is one mapper on a port. NULL when none is accepted; `error` then says why, of the first that is there. */
evermap_reader* evermap_reader_open_port(uint16_t port, evermap_reader_error* error);
/* Opens the one at `path`, for a mapper that was started with -registry. */
evermap_reader* evermap_reader_open(const char* path, evermap_reader_error* error);
/* Does nothing with NULL. */
void evermap_reader_close(evermap_reader* reader);

/* The path that was opened, and the descriptor; both the reader's. The descriptor is for inotify: see
 * evermap_reader_changes(). */
const char* evermap_reader_path(const evermap_reader* reader);
int evermap_reader_fd(const evermap_reader* reader);

/* OK while the file is still the registry; EVERMAP_READER_OUTDATED when it is to be opened anew: the mapper was upgraded
 * to another layout, or the file was removed and put back. Costs two system calls: ask before each use, or whenever the
 * answer matters. A file of which nobody knows that it was replaced is still read, and shows what was known last. */
evermap_reader_status evermap_reader_check(const evermap_reader* reader);

/* OK and fills `node` when a live or orphaned node has this name, of `name_size` bytes;
 * EVERMAP_READER_NOT_FOUND, or another status when the registry cannot be read. */
evermap_reader_status evermap_reader_lookup(const evermap_reader* reader, const char* name,
                                            size_t name_size, evermap_reader_node* node);

evermap_reader_status evermap_reader_get_facts(const evermap_reader* reader,
                                               evermap_reader_facts* facts);

/* What a caller has seen so far: begin with all zero, and free it with evermap_reader_forget(). */
typedef struct evermap_reader_seen {
  uint64_t* versions; /* of each slot; 0: nothing is there */
  uint32_t slots;
} evermap_reader_seen;

/* Is told of a slot that has changed: with the node that is there now, or with NULL when there is none any more. */
typedef void evermap_reader_told(void* context, uint32_t slot, const evermap_reader_node* node);

/* Calls `told` for each slot in which something has changed since `seen`, which it brings up to date; with a fresh one
 * for each node. EVERMAP_READER_BUSY: some were changing; call again soon. After any other failure `seen` may be behind
 * what was told, so that it is told again.
 * To be told of changes without asking: the mapper touches the file after changes, at most once a millisecond. Watch
 * it with inotify (IN_MODIFY | IN_ATTRIB) under the name /proc/self/fd/DESCRIPTOR, begin to watch before the first call,
 * and call again after each event.
 * Takes about a microsecond for each 32 nodes, and three for each 32 with changes. One thread at a time for one `seen`. */
evermap_reader_status evermap_reader_changes(const evermap_reader* reader,
                                             evermap_reader_seen* seen, evermap_reader_told* told,
                                             void* context);
void evermap_reader_forget(evermap_reader_seen* seen);

#ifdef __cplusplus
}
#endif

#endif /* EVERMAP_READER_H_ */
