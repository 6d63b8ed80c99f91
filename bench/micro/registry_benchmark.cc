// What the registry costs by itself.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/wire/protocol.h"
#include "registry/location.h"
#include "registry/registry.h"

namespace evermap {
namespace {

// A registry in a directory of its own, with `count` names.
class Filled {
 public:
  explicit Filled(size_t count) {
    if (mkdtemp(directory_) == nullptr) std::abort();
    const std::string path = absl::StrCat(directory_, "/registry");
    registry_ = *Registry::Open({.path = path, .capacity = 131072});
    for (size_t i = 0; i < count; ++i) {
      names_.push_back(absl::StrCat("node", i));
      registry_->Register({.name = names_.back(), .port = 5000});
    }
    unlink(path.c_str());
    unlink(LockPath(path).c_str());
    rmdir(directory_);
  }

  Registry& registry() { return *registry_; }
  const std::string& name(size_t i) const { return names_[i % names_.size()]; }

 private:
  char directory_[32] = "/dev/shm/evermap-bench-XXXXXX";
  std::unique_ptr<Registry> registry_;
  std::vector<std::string> names_;
};

// Registers and unregisters without pause, in a thread of its own.
class Writer {
 public:
  explicit Writer(Registry& registry)
      : thread_([this, &registry] {
          size_t i = 0;
          while (!stop_) {
            const RegisterResult result =
                registry.Register({.name = absl::StrCat("writer", i++ % 100), .port = 5000});
            registry.Unregister(result.slot, result.id);
          }
        }) {}
  ~Writer() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// What the threads of one benchmark share: the first makes it, before the loop that all enter
// together, and destroys it after the one that all leave together.
std::unique_ptr<Filled> g_filled;
std::unique_ptr<Writer> g_writer;

void Begin(const benchmark::State& state, bool with_writer) {
  if (state.thread_index() != 0) return;
  g_filled = std::make_unique<Filled>(static_cast<size_t>(state.range(0)));
  if (with_writer) g_writer = std::make_unique<Writer>(g_filled->registry());
}

void End(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() != 0) return;
  g_writer.reset();
  g_filled.reset();
}

void LookUpNodes(benchmark::State& state, bool with_writer) {
  Begin(state, with_writer);
  Registration found;
  size_t i = static_cast<size_t>(state.thread_index()) * 7919;
  for (auto _ : state) {
    benchmark::DoNotOptimize(g_filled->registry().Lookup(g_filled->name(i += 7), found));
  }
  End(state);
}

void BM_LookupHit(benchmark::State& state) { LookUpNodes(state, false); }
BENCHMARK(BM_LookupHit)->RangeMultiplier(10)->Range(10, 100'000)->ThreadRange(1, 2)->UseRealTime();

void BM_LookupHitWhileWriting(benchmark::State& state) { LookUpNodes(state, true); }
BENCHMARK(BM_LookupHitWhileWriting)->Arg(10)->Arg(10'000)->ThreadRange(1, 2)->UseRealTime();

void BM_LookupMiss(benchmark::State& state) {
  Begin(state, false);
  Registration found;
  for (auto _ : state) benchmark::DoNotOptimize(g_filled->registry().Lookup("nobody", found));
  End(state);
}
BENCHMARK(BM_LookupMiss)->RangeMultiplier(10)->Range(10, 100'000)->ThreadRange(1, 2)->UseRealTime();

void BM_RegisterUnregister(benchmark::State& state) {
  Begin(state, false);
  const std::string name = absl::StrCat("hare", state.thread_index());
  for (auto _ : state) {
    const RegisterResult result = g_filled->registry().Register({.name = name, .port = 5000});
    g_filled->registry().Unregister(result.slot, result.id);
  }
  End(state);
}
BENCHMARK(BM_RegisterUnregister)
    ->Arg(10)
    ->Arg(10'000)
    ->Arg(100'000)
    ->ThreadRange(1, 2)
    ->UseRealTime();

void BM_ForEach(benchmark::State& state) {
  Begin(state, false);
  for (auto _ : state) {
    size_t count = 0;
    g_filled->registry().ForEach(Which::kAll, [&](const Registration&) { ++count; });
    benchmark::DoNotOptimize(count);
  }
  End(state);
}
BENCHMARK(BM_ForEach)->Arg(10)->Arg(500)->Arg(10'000);

// The text of NAMES out of the registry, which a mapper makes once for each change.
void BM_NamesText(benchmark::State& state) {
  Begin(state, false);
  std::string text;
  for (auto _ : state) {
    text.clear();
    g_filled->registry().ForEach(Which::kRegistered, [&](const Registration& node) {
      protocol::AppendNamesLine(node.name(), node.port, text);
    });
    benchmark::DoNotOptimize(text.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  End(state);
}
BENCHMARK(BM_NamesText)->Arg(10)->Arg(500)->Arg(10'000);

}  // namespace
}  // namespace evermap

BENCHMARK_MAIN();
