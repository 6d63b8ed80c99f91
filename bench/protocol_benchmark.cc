// What the codec costs by itself.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <string>

#include "daemon/protocol.h"

namespace evermap::protocol {
namespace {

void BM_DecodePort2(benchmark::State& state) {
  std::array<std::byte, kFrameSizeMax> frame;
  const size_t size = EncodePort2Request("rabbit", absl::MakeSpan(frame));
  const auto received = absl::MakeConstSpan(frame.data(), size);
  for (auto _ : state) {
    benchmark::DoNotOptimize(InspectFrame(received));
    benchmark::DoNotOptimize(DecodeRequest(received.subspan(kLengthSize)));
  }
}
BENCHMARK(BM_DecodePort2);

void BM_EncodePort2Reply(benchmark::State& state) {
  std::array<std::byte, kPort2ReplySizeMax> reply;
  const NodeDescription node{.port = 5000, .name = "rabbit"};
  for (auto _ : state) benchmark::DoNotOptimize(EncodePort2Reply(node, absl::MakeSpan(reply)));
}
BENCHMARK(BM_EncodePort2Reply);

void BM_DecodeAlive2(benchmark::State& state) {
  std::array<std::byte, kFrameSizeMax> frame;
  const size_t size = EncodeAlive2Request({.port = 5000, .name = "rabbit"}, absl::MakeSpan(frame));
  const auto body = absl::MakeConstSpan(frame.data(), size).subspan(kLengthSize);
  for (auto _ : state) benchmark::DoNotOptimize(DecodeRequest(body));
}
BENCHMARK(BM_DecodeAlive2);

void BM_NamesLine(benchmark::State& state) {
  std::string text;
  for (auto _ : state) {
    text.clear();
    AppendNamesLine("rabbit", 5000, text);
    benchmark::DoNotOptimize(text.data());
  }
}
BENCHMARK(BM_NamesLine);

}  // namespace
}  // namespace evermap::protocol

BENCHMARK_MAIN();
