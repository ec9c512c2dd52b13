// Dequantising, over every form and output type.
#include <cmath>

#include "kernels/nf4.h"
#include "src/base/dtype.h"
#include "src/base/random.h"
#include "tests/kernels/forms.h"

using namespace dfmoa;
using namespace dfmoa::kernels;
using namespace dfmoa::kernels_test;

namespace {

struct Weights {
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax;
  std::int64_t block = 64;
  std::int64_t count = 0;
};

/// Random codes and scales from 2^-9 to 2^2: every (code, scale) product is a rounding of its own.
Weights random_weights(std::int64_t count, std::int64_t block) {
  const base::KeyedRandom random(7, {static_cast<std::uint64_t>(block)});
  Weights weights{{}, {}, block, count};
  for (std::int64_t i = 0; i < (count + 1) / 2; ++i) {
    weights.codes.push_back(
        static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(i), 256)));
  }
  for (std::int64_t i = 0; i < (count + block - 1) / block; ++i) {
    weights.absmax.push_back(
        static_cast<float>(std::exp2(random.uniform(static_cast<std::uint64_t>(i)) * 11.0 - 9.0)));
  }
  return weights;
}

float expected(const Weights& weights, std::int64_t i) {
  const int byte = weights.codes[static_cast<std::size_t>(i / 2)];
  const int code = i % 2 == 0 ? byte >> 4 : byte & 15;
  return kNf4Codebook[static_cast<std::size_t>(code)] *
         weights.absmax[static_cast<std::size_t>(i / weights.block)];
}

template <class Out>
Out rounded(float value) {
  if constexpr (sizeof(Out) == 2) {
    return base::to_bf16(value);
  } else {
    return static_cast<Out>(value);
  }
}

/// out[0..size): what the form writes there, and what stood there before.
template <class Out>
void run_nf4_dequantize(const Form& form, const Weights& weights, std::int64_t begin,
                        std::int64_t end, std::vector<Out>& out) {
  if (!form.on_device) {
    nf4_dequantize(weights.codes.data(), weights.absmax.data(), weights.block, begin, end,
                   out.data(), form.level);
    return;
  }
  const DeviceArray<std::uint8_t> codes(weights.codes);
  const DeviceArray<float> absmax(weights.absmax);
  const DeviceArray<Out> result(out);
  cuda_form::nf4_dequantize(codes.data(), absmax.data(), weights.block, begin, end, result.data(),
                            {});
  result.read(out.data());
}

template <class Out>
constexpr Out kUntouched = static_cast<Out>(77);

/// Runs one form on a range and compares every element bit for bit, and what lies after the range.
template <class Out>
void check(const Form& form, const Weights& weights, std::int64_t begin, std::int64_t end) {
  std::vector<Out> out(static_cast<std::size_t>(end - begin) + 64, kUntouched<Out>);
  run_nf4_dequantize(form, weights, begin, end, out);
  for (std::int64_t i = begin; i < end; ++i) {
    ASSERT_EQ(out[static_cast<std::size_t>(i - begin)], rounded<Out>(expected(weights, i)))
        << "element " << i << " of [" << begin << ", " << end << "), block " << weights.block;
  }
  for (std::size_t i = static_cast<std::size_t>(end - begin); i < out.size(); ++i) {
    ASSERT_EQ(out[i], kUntouched<Out>) << "wrote past the range's end";
  }
}

}  // namespace

// No tolerance: one product and one rounding are the same on every device.
class Nf4Dequantize : public FormTest {
 protected:
  template <class Out>
  void check_all() {
    for (std::int64_t block = 32; block <= 4096; block *= 2) {
      const Weights weights = random_weights(3 * block + 17, block);
      check<Out>(GetParam(), weights, 0, weights.count);
      check<Out>(GetParam(), weights, block, 2 * block);
      check<Out>(GetParam(), weights, block, 2 * block + 1);
      check<Out>(GetParam(), weights, 3 * block, weights.count);
      check<Out>(GetParam(), weights, 0, 0);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Forms, Nf4Dequantize, testing::ValuesIn(all_forms()), form_name);

TEST_P(Nf4Dequantize, f32_is_codebook_times_scale) {
  check_all<float>();
}
TEST_P(Nf4Dequantize, bf16_is_rounded_to_nearest_even) {
  check_all<std::uint16_t>();
}

TEST_P(Nf4Dequantize, f64_is_the_f32_value_widened) {
  check_all<double>();
}

TEST_P(Nf4Dequantize, bf16_ties_go_to_even) {
  // Code 15 is 1, so the values are the scales: two that lie halfway between bf16 neighbours.
  const Weights weights{std::vector<std::uint8_t>(64, 0xFF), {0x1.01p+0F, 0x1.03p+0F}, 64, 128};
  std::vector<std::uint16_t> out(128);
  run_nf4_dequantize(GetParam(), weights, 0, 128, out);
  EXPECT_EQ(out[0], 0x3F80);
  EXPECT_EQ(out[64], 0x3F82);
}

// The CPU's vector forms store large outputs past the caches; a GPU runs thousands of blocks.
class Nf4Streaming : public FormTest {};
INSTANTIATE_TEST_SUITE_P(Forms, Nf4Streaming, testing::ValuesIn(fast_forms()), form_name);

TEST_P(Nf4Streaming, large_outputs_agree) {
  const Weights weights = random_weights((std::int64_t{2} << 20) + 64 * 3 + 5, 64);
  check<float>(GetParam(), weights, 0, weights.count);
  check<std::uint16_t>(GetParam(), weights, 64, weights.count);
}
