#include "bench/load/shared_memory_lookup.h"

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "bench/load/load_thread.h"
#include "registry/base/clock.h"
#include "registry/reader.h"

namespace evermap::bench {
namespace {

constexpr uint32_t kBatch = 32;

void LookUp(const RegistryView& view, const NodeSet& nodes, uint32_t seed, int64_t end_ns,
            SharedMemoryLookups& result) {
  // Each thread counts in an object of its own, so that threads share no cache line.
  SharedMemoryLookups done;
  std::minstd_rand random(seed);
  Registration found;
  int64_t now_ns = MonotonicNs();
  while (now_ns < end_ns) {
    const int64_t begin_ns = now_ns;
    for (uint32_t i = 0; i < kBatch; ++i) {
      const NodeSet::Node& node = nodes.nodes()[random() % nodes.nodes().size()];
      if (!view.Lookup(node.name, found) || found.port != node.port) ++done.wrong;
    }
    now_ns = MonotonicNs();
    done.latencies.Add(static_cast<uint64_t>(now_ns - begin_ns) / kBatch);
    done.lookups += kBatch;
  }
  result = done;
}

}  // namespace

absl::StatusOr<SharedMemoryLookups> LookUpInSharedMemory(const std::string& path,
                                                         const NodeSet& nodes, uint32_t threads,
                                                         absl::Duration duration) {
  std::string error;
  const std::unique_ptr<Reader> reader = Reader::Open(path, error);
  if (reader == nullptr) return absl::NotFoundError(error);
  std::vector<SharedMemoryLookups> parts(threads);
  std::vector<std::thread> running;
  const int64_t begin_ns = MonotonicNs();
  const int64_t end_ns = begin_ns + absl::ToInt64Nanoseconds(duration);
  for (uint32_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] { LookUp(reader->view(), nodes, i + 1, end_ns, parts[i]); });
  }
  for (std::thread& thread : running) thread.join();
  const auto elapsed_ns = static_cast<double>(MonotonicNs() - begin_ns);
  SharedMemoryLookups all;
  for (const SharedMemoryLookups& part : parts) {
    all.latencies.Merge(part.latencies);
    all.lookups += part.lookups;
    all.wrong += part.wrong;
  }
  all.per_second = static_cast<double>(all.lookups) * 1e9 / elapsed_ns;
  return all;
}

}  // namespace evermap::bench
