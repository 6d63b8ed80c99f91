// What an older kernel does: refuses a ring with flags that it does not know, so that the mapper
// takes the next best, or none. To measure what that costs:
//
//   LD_PRELOAD=build-release/tests/libold_ring.so epmd-bench suite ...
//
// RING_FLAGS_REFUSED: these flags, a number; without it IORING_SETUP_DEFER_TASKRUN (Linux 6.1).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

int io_uring_queue_init_params(unsigned entries, struct io_uring* ring,
                               struct io_uring_params* params) {
  int (*real)(unsigned, struct io_uring*, struct io_uring_params*);
  const char* refused = getenv("RING_FLAGS_REFUSED");
  const unsigned flags =
      refused != NULL ? (unsigned)strtol(refused, NULL, 0) : IORING_SETUP_DEFER_TASKRUN;
  if ((params->flags & flags) != 0) return -EINVAL;
  *(void**)&real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
  return real(entries, ring, params);
}
