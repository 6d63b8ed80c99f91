// Small files as text.
#ifndef EVERMAP_BENCH_MEASURE_READ_FILE_H_
#define EVERMAP_BENCH_MEASURE_READ_FILE_H_

#include <string>

namespace evermap::bench {

// The content of the file, as far as it can be read; empty when there is no such file. Does not use
// a stream, because reading a file of /proc fails when its process ends meanwhile, and the buffer
// of a stream then throws.
std::string ReadFile(const std::string& path);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_READ_FILE_H_
