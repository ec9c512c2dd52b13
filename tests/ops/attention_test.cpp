#include "src/ops/attention.h"

#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

using tests::distance;
using tests::normal_leaf;

struct AttentionForm {
  std::string name;
  std::int64_t heads, kv_heads;
  std::vector<std::int64_t> begin;
};

class PackedAttention : public testing::TestWithParam<AttentionForm> {};

TEST_P(PackedAttention, output_and_gradients_equal_the_masked_plain_form) {
  const auto& form = GetParam();
  const auto tokens = form.begin.back();
  const std::vector<at::Tensor> qkv{normal_leaf({tokens, form.heads, 4}, 1),
                                    normal_leaf({tokens, form.kv_heads, 4}, 2),
                                    normal_leaf({tokens, form.kv_heads, 4}, 3)};
  const auto dout = tests::normal({tokens, form.heads * 4}, 4);
  const auto fused = packed_attention(qkv[0], qkv[1], qkv[2], form.begin);
  const auto plain = packed_attention_plain(qkv[0], qkv[1], qkv[2], form.begin);
  EXPECT_LT(distance(fused, plain), 1e-12);
  const auto grads = tests::gradients({fused}, {dout}, qkv);
  const auto expected = tests::gradients({plain}, {dout}, qkv);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_LT(distance(grads[i], expected[i]), 1e-12) << i;
}

INSTANTIATE_TEST_SUITE_P(Forms, PackedAttention,
                         testing::Values(AttentionForm{"one_document", 3, 3, {0, 9}},
                                         AttentionForm{"two_documents", 3, 3, {0, 5, 9}},
                                         AttentionForm{"grouped_heads", 9, 3, {0, 5, 9}},
                                         AttentionForm{"one_shared_head", 4, 1, {0, 1, 2, 9}},
                                         AttentionForm{"an_empty_document", 4, 2, {0, 5, 5, 9}},
                                         AttentionForm{"longer_than_a_tile", 2, 1, {0, 700, 1100}},
                                         AttentionForm{"no_tokens", 4, 2, {0}}),
                         [](const auto& form) { return form.param.name; });

TEST(PackedAttentionRows, views_of_a_wider_tensor_are_read_in_place) {
  const auto qkv = normal_leaf({9, 12, 4}, 1);  // 6 query heads, 3 key and 3 value heads
  const std::vector<std::int64_t> begin{0, 4, 9};
  const auto call = [&](const auto& attention) {
    return attention(qkv.narrow(1, 0, 6), qkv.narrow(1, 6, 3), qkv.narrow(1, 9, 3), begin);
  };
  const auto dout = tests::normal({9, 24}, 2);
  const auto grad = tests::gradients({call(packed_attention)}, {dout}, {qkv})[0];
  EXPECT_LT(distance(grad, tests::gradients({call(packed_attention_plain)}, {dout}, {qkv})[0]),
            1e-12);
}

TEST(Attend, the_last_tokens_see_what_a_whole_row_showed_them) {
  const auto q = tests::normal({9, 6, 4}, 1);
  const auto k = tests::normal({9, 3, 4}, 2);
  const auto v = tests::normal({9, 3, 4}, 3);
  const auto whole = packed_attention_plain(q, k, v, {0, 9});
  for (const std::int64_t rows : {1, 4, 9}) {
    EXPECT_LT(distance(attend(q.narrow(0, 9 - rows, rows), k, v), whole.narrow(0, 9 - rows, rows)),
              1e-12);
  }
}

}  // namespace
}  // namespace dfmoa::ops
