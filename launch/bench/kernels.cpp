// G8 to G10: NF4 against the memory's speed. Also the machine's limits.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <cstring>

#include "kernels/nf4.h"
#include "launch/bench/bench.h"
#include "src/base/error.h"
#include "src/ops/nf4.h"

namespace dfmoa::launch::bench {
namespace {

constexpr std::int64_t kWeights = 4096 * 4096;  // far more than any cache holds
constexpr std::int64_t kBlock = 64;

/// memcpy by all threads, as the kernels are run.
void copy(const at::Tensor& from, at::Tensor& to) {
  const auto bytes = static_cast<std::int64_t>(from.nbytes());
  const auto* source = static_cast<const char*>(from.const_data_ptr());
  auto* target = static_cast<char*>(to.mutable_data_ptr());
  at::parallel_for(0, bytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
  });
}

struct Quantised {
  at::Tensor codes = at::empty({kWeights / 2}, at::kByte);
  at::Tensor absmax = at::empty({kWeights / kBlock}, at::kFloat);
};

void quantise(const at::Tensor& weight, Quantised& to) {
  const auto level = kernels::cpu_level();
  const auto* from = weight.const_data_ptr<float>();
  auto* codes = to.codes.mutable_data_ptr<std::uint8_t>();
  auto* absmax = to.absmax.mutable_data_ptr<float>();
  at::parallel_for(0, kWeights / kBlock, 4096, [&](std::int64_t begin, std::int64_t end) {
    const bool finite = kernels::nf4_quantize(from + begin * kBlock, (end - begin) * kBlock, kBlock,
                                              codes + begin * kBlock / 2, absmax + begin, level);
    if (!finite) throw base::MachineError("bench: a random weight is not finite");
  });
}

/// Into memory that is there already, as memcpy is measured.
template <class Out>
void dequantise(const Quantised& from, Out* out) {
  const auto level = kernels::cpu_level();
  const auto* codes = from.codes.const_data_ptr<std::uint8_t>();
  const auto* absmax = from.absmax.const_data_ptr<float>();
  at::parallel_for(0, kWeights / kBlock, 4096, [&](std::int64_t begin, std::int64_t end) {
    kernels::nf4_dequantize(codes, absmax, kBlock, begin * kBlock, end * kBlock,
                            out + begin * kBlock, level);
  });
}

std::vector<Bar> dequantise(at::ScalarType dtype, const std::string& name,
                            const BenchOptions& options, const Limits& limits) {
  Quantised weights;
  quantise(at::randn({kWeights}), weights);
  auto out = at::zeros({kWeights}, dtype);
  const auto kernel = measure(options.repeat, [&] {
    if (dtype == at::kFloat) {
      dequantise(weights, out.mutable_data_ptr<float>());
    } else {
      dequantise(weights, static_cast<std::uint16_t*>(out.mutable_data_ptr()));
    }
  });
  const auto moved = static_cast<double>(weights.codes.nbytes() + weights.absmax.nbytes()) +
                     static_cast<double>(out.nbytes());
  Bar share{"G8." + name, "NF4 to " + name + ": bytes moved per second, share of memcpy's",
            moved / kernel.median() / limits.copy_bytes_per_s, "ratio", kernel.seconds};
  share.bar = 0.75;
  share.stretch = 0.9;
  constexpr std::int64_t kSide = 2048;  // malloc keeps what is freed at this size
  const auto codes = weights.codes.narrow(0, 0, kSide * kSide / 2);
  const auto absmax = weights.absmax.narrow(0, 0, kSide * kSide / kBlock);
  const auto op = measure(options.repeat, [&] {
    (void)ops::nf4_dequantize(codes, absmax, kBlock, {kSide, kSide}, dtype);
  });
  return {share, timed("G9." + name, "NF4 to a new " + name + " tensor, 4.2 million weights", op)};
}

std::vector<Bar> dequantise_fp32(const BenchOptions& options, const Limits& limits) {
  return dequantise(at::kFloat, "fp32", options, limits);
}

std::vector<Bar> dequantise_bf16(const BenchOptions& options, const Limits& limits) {
  return dequantise(at::kBFloat16, "bf16", options, limits);
}

std::vector<Bar> quantise_all(const BenchOptions& options, const Limits& /*limits*/) {
  const auto weight = at::randn({kWeights});
  Quantised to;
  return {timed("G10", "fp32 to NF4, 16.8 million weights",
                measure(options.repeat, [&] { quantise(weight, to); }))};
}

}  // namespace

Limits measure_limits(const BenchOptions& options) {
  Limits limits;
  const auto from = at::ones({kWeights});
  auto to = at::zeros_like(from);
  const auto copied = measure(options.repeat, [&] { copy(from, to); });
  limits.copy_bytes_per_s = 2.0 * static_cast<double>(from.nbytes()) / copied.median();
  const auto x = at::randn({options.tokens, 576});
  const auto w = at::randn({1536, 576});
  const auto multiplied = measure(options.repeat, [&] {
    for (int i = 0; i < 10; ++i) (void)at::mm(x, w.t());
  });
  limits.mm_flops_per_s =
      10.0 * 2.0 * static_cast<double>(options.tokens) * 576 * 1536 / multiplied.median();
  return limits;
}

std::vector<Measurement> kernel_measurements() {
  return {{"G8.fp32", "NF4 to fp32 beside memcpy, and its time (G9.fp32)", dequantise_fp32, ""},
          {"G8.bf16", "NF4 to bf16 beside memcpy, and its time (G9.bf16)", dequantise_bf16, ""},
          {"G10", "quantise to NF4", quantise_all, ""}};
}

}  // namespace dfmoa::launch::bench
