#include "src/ops/nf4_linear.h"

#include <ATen/Parallel.h>

#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/ops/nf4.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::normal;

Nf4Blocks quantised(std::int64_t count, std::int64_t block) {
  Nf4Blocks weight{at::empty({(count + 1) / 2}, at::kByte),
                   at::empty({(count + block - 1) / block}, at::kFloat), block, 0, count};
  const auto values = normal({count}, 1).to(at::kFloat);
  EXPECT_TRUE(kernels::nf4_quantize(values.const_data_ptr<float>(), count, block,
                                    weight.codes.data_ptr<std::uint8_t>(),
                                    weight.absmax.data_ptr<float>(), kernels::CpuLevel::reference));
  return weight;
}

/// The same by a dense copy of the weight.
at::Tensor dense_product(const at::Tensor& x_TD, const Nf4Blocks& weight, std::int64_t rows) {
  const auto flat =
      nf4_dequantize(weight.codes, weight.absmax, weight.block, {weight.count}, x_TD.scalar_type());
  const auto columns = x_TD.size(1);
  return at::mm(x_TD, flat.narrow(0, weight.skipped, rows * columns).view({rows, columns}).t());
}

struct FewRowsCase {
  std::int64_t rows, columns, block, skipped;
};

/// One panel and many, rows that begin inside a block, a panel of one row, an odd last block.
const std::vector<FewRowsCase> kFewRowsCases{
    {8, 16, 64, 0}, {301, 576, 64, 0}, {77, 1005, 64, 37}, {5, 70000, 4096, 1}, {1, 1, 64, 0}};

TEST(Nf4FewRows, panels_equal_the_dense_product) {
  for (const auto& at : kFewRowsCases) {
    auto weight = quantised(at.skipped + at.rows * at.columns, at.block);
    weight.skipped = at.skipped;
    for (const std::int64_t tokens : {0, 1, 3, 16}) {
      const auto x_TD = normal({tokens, at.columns}, 2);
      const auto y_TF = nf4_linear(x_TD, weight, {}, at.rows);
      EXPECT_EQ(y_TF.sizes(), at::IntArrayRef({tokens, at.rows}));
      if (tokens == 0) continue;
      const auto expected = dense_product(x_TD, weight, at.rows);
      EXPECT_LT(distance(y_TF, expected), 1e-11) << at.rows << " x " << at.columns;
      const auto x32_TD = x_TD.to(at::kFloat);
      const auto scale = expected.abs().max().item<double>();
      EXPECT_LT(distance(nf4_linear(x32_TD, weight, {}, at.rows).to(at::kDouble), expected),
                1e-5 * scale);
      const auto x16_TD = x_TD.to(at::kBFloat16);
      EXPECT_LT(distance(nf4_linear(x16_TD, weight, {}, at.rows).to(at::kDouble), expected),
                3e-2 * scale);
    }
  }
}

TEST(Nf4FewRows, every_panel_adds_its_share_of_the_bias) {
  const auto weight = quantised(301 * 576, 64);
  const auto x_TD = normal({2, 576}, 3);
  const auto bias_F = normal({301}, 4);
  EXPECT_LT(
      distance(nf4_linear(x_TD, weight, bias_F, 301), dense_product(x_TD, weight, 301) + bias_F),
      1e-12);
}

TEST(Nf4FewRows, threads_do_not_change_a_bit) {
  const auto weight = quantised(1000 * 576, 64);
  const auto x_TD = normal({3, 576}, 5).to(at::kFloat);
  const auto threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = nf4_linear(x_TD, weight, {}, 1000);
  at::set_num_threads(3);
  const auto three = nf4_linear(x_TD, weight, {}, 1000);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

TEST(Nf4FewRows, an_x_under_autograd_is_read_as_it_is) {
  const auto weight = quantised(300 * 576, 64);
  const auto x_TD = tests::normal_leaf({2, 576}, 6);
  const auto y_TF = nf4_linear(x_TD, weight, {}, 300);
  EXPECT_FALSE(y_TF.requires_grad());
  EXPECT_LT(distance(y_TF, dense_product(x_TD.detach(), weight, 300)), 1e-12);
}

TEST(Nf4FewRows, blocks_that_do_not_hold_the_matrix_are_refused) {
  auto weight = quantised(128, 64);
  const auto x_TD = normal({2, 16}, 7);
  EXPECT_NO_THROW((void)nf4_linear(x_TD, weight, {}, 8));
  const auto sentence =
      tests::refusal<base::ShapeError>([&] { (void)nf4_linear(x_TD, weight, {}, 9); });
  EXPECT_TRUE(tests::contains(sentence, "128 weights")) << sentence;
  EXPECT_TRUE(tests::contains(sentence, "9 rows")) << sentence;
  weight.skipped = 1;
  EXPECT_THROW((void)nf4_linear(x_TD, weight, {}, 8), base::ShapeError);
  weight.skipped = 0;
  weight.absmax = weight.absmax.narrow(0, 0, 1);
  EXPECT_THROW((void)nf4_linear(x_TD, weight, {}, 8), base::ShapeError);
  EXPECT_THROW((void)nf4_linear(x_TD[0], quantised(128, 64), {}, 8), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::ops
