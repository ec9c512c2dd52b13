// Own ops on a GPU against the CPU, at the sizes of a real row: registration, streams, and that a
// sum comes out with the same bits every time.
#include "tests/support/gpu.h"
#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/ops/attention.h"
#include "src/ops/device.h"
#include "src/ops/gate_scale.h"
#include "src/ops/linear_cross_entropy.h"
#include "src/ops/nf4.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::normal;

at::Tensor on_gpu(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(at::kCUDA) : tensor;
}

/// Largest difference, relative to the largest number.
double relative(const at::Tensor& there, const at::Tensor& here) {
  EXPECT_TRUE(there.is_cuda());
  const double size = here.numel() == 0 ? 1.0 : here.abs().max().item<double>();
  return tests::distance(there.to(at::kCPU), here) / std::max(size, 1e-30);
}

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = tests::missing_gpu(); !reason.empty()) GTEST_SKIP() << reason;
    (void)choose_device("cuda", 0, "device");  // with deterministic algorithms, as runs have
  }
};

class GpuTypes : public GpuTest, public testing::WithParamInterface<at::ScalarType> {
 protected:
  // The same sums in another order, over at most 900 tokens or 576 channels.
  static double tolerance() { return GetParam() == at::kDouble ? 1e-13 : 5e-5; }
};

/// 8 experts of ranks 0 to 16 on 2048 tokens in four documents, one of them empty.
struct GateCase {
  explicit GateCase(at::ScalarType dtype) {
    const std::vector<std::int32_t> ranks{16, 0, 3, 8, 16, 1, 12, 8};
    const std::vector<std::int32_t> ends{700, 700, 1600, 2048};
    std::vector<std::int32_t> column, row, begin{0};
    for (std::size_t e = 0; e < ranks.size(); ++e) {
      column.insert(column.end(), static_cast<std::size_t>(ranks[e]), static_cast<int>(e));
    }
    for (std::size_t d = 0; d < ends.size(); ++d) {
      row.insert(row.end(), static_cast<std::size_t>(ends[d] - begin.back()), static_cast<int>(d));
      begin.push_back(ends[d]);
    }
    layout = {tests::ints(column), tests::ints(row), tests::ints(begin), 0.7};
    h_TN = normal({2048, 64}, 1).to(dtype);
    gate_TG = normal({2048, 8}, 2).to(dtype);
    z_ZN = normal({4, 64}, 3).to(dtype);
    q_TN = normal({2048, 64}, 4).to(dtype);
  }
  [[nodiscard]] GateLayout gpu_layout() const {
    return {on_gpu(layout.column_N), on_gpu(layout.row_T), on_gpu(layout.row_begin), layout.scale};
  }
  at::Tensor h_TN, gate_TG, z_ZN, q_TN;
  GateLayout layout;
};

TEST_P(GpuTypes, gate_scale_equals_the_cpu_form) {
  const GateCase in(GetParam());
  for (const bool gated : {true, false}) {
    for (const bool ranked : {true, false}) {
      const auto gate = gated ? in.gate_TG : at::Tensor();
      const auto z = ranked ? in.z_ZN : at::Tensor();
      const auto out = gate_scale(on_gpu(in.h_TN), on_gpu(gate), on_gpu(z), in.gpu_layout());
      EXPECT_LE(relative(out, gate_scale(in.h_TN, gate, z, in.layout)), tolerance());
      const auto expected = gate_scale_backward(in.q_TN, in.h_TN, gate, z, in.layout);
      const auto grads = gate_scale_backward(on_gpu(in.q_TN), on_gpu(in.h_TN), on_gpu(gate),
                                             on_gpu(z), in.gpu_layout());
      EXPECT_LE(relative(grads.dh_TN, expected.dh_TN), tolerance());
      if (gated) {
        EXPECT_LE(relative(grads.dgate_TG, expected.dgate_TG), tolerance());
      }
      if (ranked) {
        EXPECT_LE(relative(grads.dz_ZN, expected.dz_ZN), tolerance());
      }
    }
  }
}

TEST_P(GpuTypes, gate_scale_backward_repeats_bit_for_bit) {
  const GateCase in(GetParam());
  const auto run = [&] {
    return gate_scale_backward(on_gpu(in.q_TN), on_gpu(in.h_TN), on_gpu(in.gate_TG),
                               on_gpu(in.z_ZN), in.gpu_layout());
  };
  const auto first = run();
  for (int again = 0; again < 20; ++again) {
    const auto next = run();
    EXPECT_TRUE(at::equal(next.dgate_TG, first.dgate_TG));
    EXPECT_TRUE(at::equal(next.dz_ZN, first.dz_ZN));
  }
}

TEST_P(GpuTypes, attention_equals_the_cpu_form_and_repeats_bit_for_bit) {
  const std::vector<std::int64_t> begin{0, 700, 700, 701, 1600};
  const auto make = [&](std::int64_t heads, std::uint64_t seed, at::Device device) {
    return normal({1600, heads, 64}, seed).to(GetParam()).to(device).detach().requires_grad_();
  };
  const auto run = [&](at::Device device) {
    const std::vector<at::Tensor> qkv{make(9, 1, device), make(3, 2, device), make(3, 3, device)};
    const auto out = packed_attention(qkv[0], qkv[1], qkv[2], begin);
    auto all = tests::gradients({out}, {normal({1600, 576}, 4).to(GetParam()).to(device)}, qkv);
    all.push_back(out.detach());
    return all;
  };
  const auto here = run(at::kCPU);
  const auto there = run(at::kCUDA);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_LE(relative(there[i], here[i]), tolerance()) << i;
  for (int again = 0; again < 20; ++again) {
    const auto next = run(at::kCUDA);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(at::equal(next[i], there[i])) << i;
  }
}

TEST_P(GpuTypes, linear_cross_entropy_equals_the_cpu_form) {
  const auto x_XD = normal({300, 576}, 1).to(GetParam());
  const auto weight_VD = normal({4000, 576}, 2).mul(0.05).to(GetParam());
  const auto target_X = at::arange(300, at::kLong) * 13;
  const auto here = linear_cross_entropy(x_XD, weight_VD, target_X, 0.01, true);
  const auto run = [&] {
    return linear_cross_entropy(on_gpu(x_XD), on_gpu(weight_VD), on_gpu(target_X), 0.01, true);
  };
  const auto there = run();
  EXPECT_LE(relative(there.nll_X, here.nll_X), tolerance());
  EXPECT_LE(relative(there.dx_XD, here.dx_XD), tolerance());
  EXPECT_TRUE(at::equal(there.best_X.to(at::kCPU), here.best_X));
  EXPECT_TRUE(at::equal(run().dx_XD, there.dx_XD));
}

INSTANTIATE_TEST_SUITE_P(Types, GpuTypes, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

TEST_F(GpuTest, nf4_equals_the_cpu_form_bit_for_bit) {
  const auto weight = normal({1536, 577}, 6).to(at::kFloat).contiguous();  // a last block of 0.5
  const auto blocks = (weight.numel() + 63) / 64;
  const auto codes = at::empty({(weight.numel() + 1) / 2}, at::kByte);
  const auto absmax = at::empty({blocks}, at::kFloat);
  ASSERT_TRUE(kernels::nf4_quantize(weight.const_data_ptr<float>(), weight.numel(), 64,
                                    codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                    kernels::cpu_level()));
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto here = nf4_dequantize(codes, absmax, 64, weight.sizes(), dtype);
    const auto there = nf4_dequantize(on_gpu(codes), on_gpu(absmax), 64, weight.sizes(), dtype);
    EXPECT_TRUE(at::equal(there.to(at::kCPU), here)) << dtype;
  }
}

TEST_F(GpuTest, a_chosen_gpu_comes_with_deterministic_algorithms) {
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  EXPECT_FALSE(at::globalContext().deterministicAlgorithmsWarnOnly());
}

/// The op reads what torch's last op on the current stream writes, milliseconds later.
TEST_F(GpuTest, own_ops_follow_the_current_stream) {
  const GateCase in(at::kFloat);
  const auto gate = on_gpu(in.gate_TG);
  const auto z = on_gpu(in.z_ZN);
  const auto layout = in.gpu_layout();
  auto h = on_gpu(in.h_TN);
  const auto big = at::randn({4096, 4096}, h.options());
  auto product = at::empty_like(big);
  const auto expected = gate_scale(in.h_TN * 2, in.gate_TG, in.z_ZN, in.layout);
  const c10::impl::VirtualGuardImpl backend(at::kCUDA);
  backend.synchronizeDevice(h.device().index());
  const c10::StreamGuard guard(backend.getStreamFromGlobalPool(h.device()));
  // The first call of each op loads its code and allocates, both of which wait for the device.
  at::mm_out(product, big, big);
  (void)gate_scale(h, gate, z, layout);
  h.mul_(1);
  backend.synchronizeDevice(h.device().index());
  for (int i = 0; i < 20; ++i) at::mm_out(product, big, big);
  h.mul_(2);
  const auto out = gate_scale(h, gate, z, layout);
  EXPECT_LE(relative(out, expected), 1e-6);
}

}  // namespace
}  // namespace dfmoa::ops
