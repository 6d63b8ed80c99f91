// What the registry costs by itself.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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
    unlink((path + ".lock").c_str());
    rmdir(directory_);
  }

  Registry& registry() { return *registry_; }
  const std::string& name(size_t i) const { return names_[i % names_.size()]; }

 private:
  char directory_[32] = "/dev/shm/evermap-bench-XXXXXX";
  std::unique_ptr<Registry> registry_;
  std::vector<std::string> names_;
};

void BM_LookupHit(benchmark::State& state) {
  static std::unique_ptr<Filled> filled;
  if (state.thread_index() == 0)
    filled = std::make_unique<Filled>(static_cast<size_t>(state.range(0)));
  Registration found;
  size_t i = static_cast<size_t>(state.thread_index()) * 7919;
  for (auto _ : state) {
    benchmark::DoNotOptimize(filled->registry().Lookup(filled->name(i += 7), found));
  }
  if (state.thread_index() == 0) filled.reset();
}
BENCHMARK(BM_LookupHit)
    ->Arg(10)
    ->Arg(1000)
    ->Arg(10000)
    ->Arg(100000)
    ->ThreadRange(1, 2)
    ->UseRealTime();

void BM_LookupMiss(benchmark::State& state) {
  Filled filled(static_cast<size_t>(state.range(0)));
  Registration found;
  for (auto _ : state) benchmark::DoNotOptimize(filled.registry().Lookup("nobody", found));
}
BENCHMARK(BM_LookupMiss)->Arg(10)->Arg(10000)->Arg(100000);

void BM_RegisterUnregister(benchmark::State& state) {
  Filled filled(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    const RegisterResult result = filled.registry().Register({.name = "hare", .port = 5000});
    filled.registry().Unregister(result.slot, result.id);
  }
}
BENCHMARK(BM_RegisterUnregister)->Arg(10)->Arg(10000);

void BM_ForEach(benchmark::State& state) {
  Filled filled(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    size_t count = 0;
    filled.registry().ForEach([&](const Registration&) { ++count; });
    benchmark::DoNotOptimize(count);
  }
}
BENCHMARK(BM_ForEach)->Arg(500)->Arg(10000);

}  // namespace
}  // namespace evermap

BENCHMARK_MAIN();
