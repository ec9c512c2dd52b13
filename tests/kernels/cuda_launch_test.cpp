// What the launchers of the CUDA kernels count and refuse, on the emulation.
#include "kernels/cuda/launch.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/kernels/gate_scale_case.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

namespace {

/// 200 values of blocks of 64.
struct Nf4Weights {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(100, 0x5A);
  std::vector<float> absmax = std::vector<float>(4, 0.5F);
};

}  // namespace

TEST(CudaLaunch, nf4_counts_its_launches) {
  const Nf4Weights weights;
  std::vector<float> out(200);
  LaunchCounts counts;
  const LaunchTarget target{nullptr, &counts};
  emulated::nf4_dequantize(weights.codes.data(), weights.absmax.data(), 64, 0, 200, out.data(),
                           target);
  emulated::nf4_dequantize(weights.codes.data(), weights.absmax.data(), 64, 64, 64, out.data(),
                           target);
  EXPECT_EQ(counts.nf4_dequantize, 1) << "an empty range launches nothing";
}

TEST(CudaLaunch, nf4_wrong_arguments_are_shape_errors) {
  const Nf4Weights weights;
  std::vector<float> out(204);
  const auto run = [&](const std::uint8_t* codes, std::int64_t block, std::int64_t begin,
                       std::int64_t end, float* to) {
    emulated::nf4_dequantize(codes, weights.absmax.data(), block, begin, end, to, {});
  };
  const std::uint8_t* codes = weights.codes.data();
  EXPECT_THROW(run(codes, 48, 0, 96, out.data()), base::ShapeError);
  EXPECT_THROW(run(codes, 64, 32, 96, out.data()), base::ShapeError);
  EXPECT_THROW(run(codes, 64, 128, 64, out.data()), base::ShapeError);
  EXPECT_THROW(run(codes + 1, 64, 0, 64, out.data()), base::ShapeError);
  EXPECT_THROW(run(codes, 64, 0, 64, out.data() + 1), base::ShapeError);
}

TEST(CudaLaunch, gate_scale_counts_its_launches_and_launches_nothing_for_no_tokens) {
  LaunchCounts counts;
  const LaunchTarget target{nullptr, &counts};
  for (const std::size_t which : {0U, 6U}) {  // "mixture", "zero_tokens"
    const GateScaleCase<float> p(gate_scale_sizes()[which]);
    std::vector<float> out(p.h.size()), dw(p.w.size()), dz(p.z.size()), partial(p.z.size());
    const StridedRows<float> rows{out.data(), p.stride};
    emulated::gate_scale_forward(p.shape(), p.inputs(), rows, target);
    emulated::gate_scale_backward(p.shape(), p.inputs(), p.q_rows(), rows, dw.data(), target);
    emulated::gate_scale_backward_z(p.shape(), p.inputs(), p.q_rows(), p.document_begin.data(),
                                    p.rows, partial.data(), dz.data(), target);
  }
  EXPECT_EQ(counts.gate_scale_forward, 1);
  EXPECT_EQ(counts.gate_scale_backward, 1);
  EXPECT_EQ(counts.gate_scale_backward_z, 4) << "two stages each; dz of an empty row is zero";
}

TEST(CudaLaunch, gate_scale_too_small_strides_are_shape_errors) {
  const GateScaleCase<float> p(gate_scale_sizes()[0]);
  std::vector<float> out(p.h.size());
  const StridedRows<float> narrow{out.data(), p.directions - 1};
  EXPECT_THROW(emulated::gate_scale_forward(p.shape(), p.inputs(), narrow, {}), base::ShapeError);
  EXPECT_THROW(
      emulated::gate_scale_backward<float>(p.shape(), p.inputs(), p.q_rows(), narrow, nullptr, {}),
      base::ShapeError);
  EXPECT_THROW(
      emulated::gate_scale_backward_z<float>(p.shape(), p.inputs(), {p.q.data(), 1},
                                             p.document_begin.data(), p.rows, nullptr, nullptr, {}),
      base::ShapeError);
}
