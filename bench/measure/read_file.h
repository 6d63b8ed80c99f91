// Small files as text.
#ifndef EVERMAP_BENCH_MEASURE_READ_FILE_H_
#define EVERMAP_BENCH_MEASURE_READ_FILE_H_

#include <string>

namespace evermap::bench {

// What can be read of it, which is nothing when it is not there. Not by a stream: reading a file of
// /proc fails when its process ends meanwhile, and a stream's buffer then throws.
std::string ReadFile(const std::string& path);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_READ_FILE_H_
