#include "src/ops/nf4.h"

#include "kernels/nf4.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

struct Nf4Input {
  Nf4Input(std::int64_t out_features, std::int64_t in_features, std::int64_t block_size)
      : shape{out_features, in_features}, block(block_size) {
    const auto count = out_features * in_features;
    const auto weight = tests::normal({count}, 1).to(at::kFloat);
    codes = at::empty({(count + 1) / 2}, at::kByte);
    absmax = at::empty({(count + block - 1) / block}, at::kFloat);
    EXPECT_TRUE(kernels::nf4_quantize(weight.const_data_ptr<float>(), count, block,
                                      codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                                      kernels::CpuLevel::reference));
  }
  /// Level of each code times its block's scale: the first weight lies in the high nibble.
  [[nodiscard]] at::Tensor expected() const {
    auto out = at::empty(shape, at::kFloat);
    for (std::int64_t i = 0; i < out.numel(); ++i) {
      const auto byte = codes.const_data_ptr<std::uint8_t>()[i / 2];
      const auto code = static_cast<std::size_t>(i % 2 == 0 ? byte >> 4 : byte & 15);
      out.data_ptr<float>()[i] =
          kernels::kNf4Codebook[code] * absmax.const_data_ptr<float>()[i / block];
    }
    return out;
  }
  std::vector<std::int64_t> shape;
  std::int64_t block;
  at::Tensor codes, absmax;
};

TEST(Nf4Op, every_type_equals_level_times_scale_bit_for_bit) {
  // The last one is cut over several tasks; the second and third end inside a byte and a block.
  for (const auto& in :
       {Nf4Input(4, 32, 64), Nf4Input(3, 7, 32), Nf4Input(5, 67, 64), Nf4Input(300, 2048, 4096)}) {
    const auto expected = in.expected();
    const auto call = [&](at::ScalarType dtype) {
      return nf4_dequantize(in.codes, in.absmax, in.block, in.shape, dtype);
    };
    EXPECT_TRUE(at::equal(call(at::kFloat), expected));
    EXPECT_TRUE(at::equal(call(at::kDouble), expected.to(at::kDouble)));
    EXPECT_TRUE(at::equal(call(at::kBFloat16), expected.to(at::kBFloat16)));
  }
}

TEST(Nf4Op, tensors_that_do_not_hold_the_weights_are_refused) {
  const Nf4Input in(4, 32, 64);
  const auto call = [&](const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
                        at::ScalarType dtype) {
    (void)nf4_dequantize(codes, absmax, block, in.shape, dtype);
  };
  const auto sentence = tests::refusal<base::ShapeError>(
      [&] { call(in.codes.narrow(0, 0, 63), in.absmax, 64, at::kFloat); });
  EXPECT_TRUE(tests::contains(sentence, "63 bytes of codes and 2 scales for 128 weights"))
      << sentence;
  EXPECT_THROW(call(in.codes, in.absmax.narrow(0, 0, 1), 64, at::kFloat), base::ShapeError);
  EXPECT_THROW(call(in.codes, in.absmax, 32, at::kFloat), base::ShapeError);
  EXPECT_THROW(call(in.codes, in.absmax, 0, at::kFloat), base::ShapeError);
  EXPECT_THROW(call(in.codes, in.absmax.to(at::kDouble), 64, at::kFloat), base::ShapeError);
  EXPECT_THROW(call(in.codes.to(at::kInt), in.absmax, 64, at::kFloat), base::ShapeError);
}

TEST(Nf4Op, another_result_type_is_refused_by_name) {
  const Nf4Input in(4, 32, 64);
  const auto sentence = tests::refusal<base::ShapeError>(
      [&] { (void)nf4_dequantize(in.codes, in.absmax, 64, in.shape, at::kHalf); });
  EXPECT_TRUE(tests::contains(sentence, "to Half")) << sentence;
}

}  // namespace
}  // namespace dfmoa::ops
