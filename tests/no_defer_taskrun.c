// What an older kernel does: refuses a ring with IORING_SETUP_DEFER_TASKRUN (Linux 6.1), so that
// the mapper takes the next best. To measure what that costs:
//
//   LD_PRELOAD=build-release/tests/libno_defer_taskrun.so epmd-bench suite ...
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>

int io_uring_queue_init_params(unsigned entries, struct io_uring* ring,
                               struct io_uring_params* params) {
  int (*real)(unsigned, struct io_uring*, struct io_uring_params*);
  if ((params->flags & IORING_SETUP_DEFER_TASKRUN) != 0) return -EINVAL;
  *(void**)&real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
  return real(entries, ring, params);
}
