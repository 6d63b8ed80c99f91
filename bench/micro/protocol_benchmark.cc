// The cost of encoding and decoding alone, without sockets.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <string>

#include "daemon/wire/protocol.h"

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

void BM_EncodeAlive2Reply(benchmark::State& state) {
  std::array<std::byte, kAlive2ReplySizeMax> reply;
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeAlive2Reply(kVersionWithLongCreation, 7, absl::MakeSpan(reply)));
  }
}
BENCHMARK(BM_EncodeAlive2Reply);

// A name of the largest size that the protocol allows.
void BM_DecodePort2LongName(benchmark::State& state) {
  std::array<std::byte, kFrameSizeMax> frame;
  const std::string name(kLookupNameCodePointsMax, 'x');
  const size_t size = EncodePort2Request(name, absl::MakeSpan(frame));
  const auto body = absl::MakeConstSpan(frame.data(), size).subspan(kLengthSize);
  for (auto _ : state) benchmark::DoNotOptimize(DecodeRequest(body));
}
BENCHMARK(BM_DecodePort2LongName);

void BM_DecodeNamesReply(benchmark::State& state) {
  std::string text(kPortHeaderSize, '\0');
  for (int64_t i = 0; i < state.range(0); ++i) AppendNamesLine("rabbit", 5000, text);
  const auto reply =
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
  for (auto _ : state) benchmark::DoNotOptimize(DecodeNamesReply(reply));
}
BENCHMARK(BM_DecodeNamesReply)->Arg(10)->Arg(500);

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
