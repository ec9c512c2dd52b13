// Our own ops on the pretend accelerator: the registration and the .cu kernels that ship, against
// their CPU forms; and what the accelerator must refuse.
#include <gtest/gtest.h>

#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/ops/gate_scale.h"
#include "src/ops/nf4.h"
#include "tests/support/pretend_device/pretend_device.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::contains;
using tests::distance;
using tests::ints;
using tests::normal;

at::Tensor on_device(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(pretend::device()) : tensor;
}

at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(at::kCPU) : tensor;
}

/// 9 tokens in documents of 4, 0 and 5; 40 directions of experts with ranks 20, 0, 13, 7.
struct Input {
  explicit Input(at::ScalarType dtype) {
    std::vector<std::int32_t> column(20, 0);
    column.resize(33, 2);
    column.resize(40, 3);
    layout = {ints(column), ints({0, 0, 0, 0, 2, 2, 2, 2, 2}), ints({0, 4, 4, 9}), -1.7};
    for (auto* tensor : {&h_TN, &gate_TG, &z_ZN, &q_TN}) *tensor = tensor->to(dtype);
  }
  at::Tensor h_TN = normal({9, 40}, 1);
  at::Tensor gate_TG = normal({9, 4}, 2);
  at::Tensor z_ZN = normal({3, 40}, 3);
  at::Tensor q_TN = normal({9, 40}, 4);
  GateLayout layout;

  [[nodiscard]] GateLayout device_layout() const {
    return {on_device(layout.column_N), on_device(layout.row_T), on_device(layout.row_begin),
            layout.scale};
  }
};

class OnDevice : public testing::TestWithParam<at::ScalarType> {
 protected:
  // The same products in another order of summation over at most 20 directions or 9 tokens.
  static double tolerance() { return GetParam() == at::kDouble ? 1e-13 : 1e-5; }
};

TEST_P(OnDevice, gate_scale_equals_the_cpu_form) {
  const Input in(GetParam());
  const auto before = pretend::launches().gate_scale_forward.load();
  for (const bool gated : {true, false}) {
    for (const bool ranked : {true, false}) {
      const auto gate = gated ? in.gate_TG : at::Tensor();
      const auto z = ranked ? in.z_ZN : at::Tensor();
      const auto expected = gate_scale(in.h_TN, gate, z, in.layout);
      const auto out =
          gate_scale(on_device(in.h_TN), on_device(gate), on_device(z), in.device_layout());
      EXPECT_EQ(out.device(), pretend::device());
      EXPECT_LE(distance(on_host(out), expected), tolerance());
    }
  }
  EXPECT_EQ(pretend::launches().gate_scale_forward.load() - before, 4);
}

TEST_P(OnDevice, gate_scale_backward_equals_the_cpu_form) {
  const Input in(GetParam());
  const auto before = pretend::launches().gate_scale_backward.load();
  const auto before_z = pretend::launches().gate_scale_backward_z.load();
  for (const bool gated : {true, false}) {
    for (const bool ranked : {true, false}) {
      const auto gate = gated ? in.gate_TG : at::Tensor();
      const auto z = ranked ? in.z_ZN : at::Tensor();
      const auto expected = gate_scale_backward(in.q_TN, in.h_TN, gate, z, in.layout);
      const auto grads = gate_scale_backward(on_device(in.q_TN), on_device(in.h_TN),
                                             on_device(gate), on_device(z), in.device_layout());
      EXPECT_LE(distance(on_host(grads.dh_TN), expected.dh_TN), tolerance());
      EXPECT_LE(distance(on_host(grads.dgate_TG), expected.dgate_TG), tolerance());
      EXPECT_LE(distance(on_host(grads.dz_ZN), expected.dz_ZN), tolerance());
    }
  }
  EXPECT_EQ(pretend::launches().gate_scale_backward.load() - before, 4);
  EXPECT_EQ(pretend::launches().gate_scale_backward_z.load() - before_z, 4);  // 2 of 2 stages
}

TEST_P(OnDevice, gate_scale_reads_a_slice_in_place_and_takes_no_tokens) {
  const Input in(GetParam());
  const auto wide = normal({9, 50}, 5).to(GetParam());
  const auto layout = in.device_layout();
  const auto out = gate_scale(on_device(wide).narrow(1, 6, 40), on_device(in.gate_TG),
                              on_device(in.z_ZN), layout);
  EXPECT_LE(
      distance(on_host(out), gate_scale(wide.narrow(1, 6, 40), in.gate_TG, in.z_ZN, in.layout)),
      tolerance());
  auto empty_layout = layout;
  empty_layout.row_T = on_device(at::empty({0}, at::kInt));
  empty_layout.row_begin = on_device(ints({0, 0, 0, 0}));
  const auto none = on_device(in.h_TN.narrow(0, 0, 0));
  const auto grads = gate_scale_backward(none, none, on_device(in.gate_TG.narrow(0, 0, 0)),
                                         on_device(in.z_ZN), empty_layout);
  EXPECT_EQ(grads.dh_TN.sizes(), none.sizes());
  EXPECT_EQ(distance(on_host(grads.dz_ZN), at::zeros_like(in.z_ZN)), 0);
}

TEST_P(OnDevice, nf4_equals_the_cpu_form_bit_for_bit) {
  const auto weight = normal({37, 11}, 6).to(at::kFloat).contiguous();  // a last block of 23
  const auto blocks = (weight.numel() + 63) / 64;
  auto codes = at::empty({(weight.numel() + 1) / 2}, at::kByte);
  auto absmax = at::empty({blocks}, at::kFloat);
  ASSERT_TRUE(kernels::nf4_quantize(weight.const_data_ptr<float>(), weight.numel(), 64,
                                    codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                    kernels::cpu_level()));
  const auto before = pretend::launches().nf4_dequantize.load();
  const auto out = nf4_dequantize(on_device(codes), on_device(absmax), 64, {37, 11}, GetParam());
  EXPECT_TRUE(at::equal(on_host(out), nf4_dequantize(codes, absmax, 64, {37, 11}, GetParam())));
  EXPECT_EQ(pretend::launches().nf4_dequantize.load() - before, 1);
}

INSTANTIATE_TEST_SUITE_P(Types, OnDevice, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& type) { return std::string(c10::toString(type.param)); });

TEST(OnDeviceRefusal, an_own_op_names_the_tensor_that_stayed_behind) {
  const Input in(at::kDouble);
  const auto refused = [&](const at::Tensor& gate, const GateLayout& layout) {
    return tests::refusal<base::ShapeError>(
        [&] { (void)gate_scale(on_device(in.h_TN), gate, on_device(in.z_ZN), layout); });
  };
  EXPECT_TRUE(contains(refused(in.gate_TG, in.device_layout()), "gate_scale: gate lies on cpu"));
  auto layout = in.device_layout();
  layout.column_N = in.layout.column_N;
  EXPECT_TRUE(contains(refused(on_device(in.gate_TG), layout), "column lies on cpu"));
  const auto absmax = at::ones({1}, at::kFloat);
  const auto sentence = tests::refusal<base::ShapeError>([&] {
    (void)nf4_dequantize(on_device(at::zeros({32}, at::kByte)), absmax, 64, {64}, at::kFloat);
  });
  EXPECT_TRUE(contains(sentence, "absmax lies on cpu")) << sentence;
}

// An own op that has a CPU form alone, as one that somebody adds and forgets.
TORCH_LIBRARY_FRAGMENT(dfmoa, library) {
  library.def("test_cpu_only(Tensor x) -> Tensor");
}
TORCH_LIBRARY_IMPL(dfmoa, CPU, library) {
  library.impl("test_cpu_only", [](const at::Tensor& x) { return x.clone(); });
}

TEST(PretendDevice, runs_no_own_op_that_has_no_kernel) {
  const auto op = c10::Dispatcher::singleton()
                      .findSchemaOrThrow("dfmoa::test_cpu_only", "")
                      .typed<at::Tensor(const at::Tensor&)>();
  const auto x = at::ones({2});
  EXPECT_TRUE(at::equal(op.call(x), x));
  const auto sentence = tests::refusal<std::exception>([&] { (void)op.call(on_device(x)); });
  EXPECT_TRUE(contains(sentence, "dfmoa::test_cpu_only has no kernel")) << sentence;
}

TEST(PretendDevice, names_the_op_that_mixes_devices) {
  const auto x = on_device(normal({3, 3}, 1));
  const auto y = normal({3, 3}, 2);
  const auto expect = [](std::string_view name, const std::function<void()>& call) {
    const auto sentence = tests::refusal<std::exception>(call);
    EXPECT_TRUE(contains(sentence, name) && contains(sentence, "two devices")) << sentence;
  };
  expect("aten::mm", [&] { (void)at::mm(x, y); });
  expect("", [&] { (void)(x + y); });  // torch itself refuses these before any kernel is chosen
  expect("aten::index_select", [&] { (void)x.index_select(0, at::zeros({1}, at::kLong)); });
  expect("aten::cat", [&] { (void)at::cat({x, y}); });
  EXPECT_EQ((x + at::ones({}, at::kDouble)).device(), pretend::device());  // a lone number may
}

TEST(PretendDevice, counts_what_the_host_waits_for) {
  const auto x = on_device(at::ones({4}));
  const auto reads = [](const std::function<void()>& body) {
    const auto before = pretend::traffic();
    body();
    return pretend::traffic() - before;
  };
  EXPECT_EQ(reads([&] { (void)x.sum().item<float>(); }).host_reads, 1);
  EXPECT_EQ(reads([&] { (void)at::equal(x, x); }).host_reads, 1);
  EXPECT_EQ(reads([&] { (void)x.nonzero(); }).host_reads, 1);
  EXPECT_EQ(reads([&] { (void)x.exp().mul_(2).sum(); }).host_reads, 0);
  const auto out = reads([&] { (void)x.to(at::kCPU); });
  EXPECT_EQ(out.to_host, 1);
  EXPECT_EQ(out.to_host_bytes, 16);
  EXPECT_EQ(reads([&] { (void)x.exp(); }).to_host, 0);
  EXPECT_EQ(reads([&] { (void)on_device(at::ones({4})); }).to_device, 1);
}

TEST(PretendDevice, fresh_memory_is_poisoned) {
  const auto x = at::empty({5}, at::TensorOptions(at::kFloat).device(pretend::device()));
  EXPECT_TRUE(at::isnan(x.to(at::kCPU)).all().item<bool>());
}

TEST(PretendDeviceDeathTest, host_code_that_touches_its_memory_dies_of_it) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto x = on_device(at::ones({4}));
  EXPECT_DEATH(std::printf("%f", static_cast<double>(*x.const_data_ptr<float>())),
               "host code touched the memory of the pretend accelerator");
}

}  // namespace
}  // namespace dfmoa::ops
