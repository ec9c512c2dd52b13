#include "src/ops/dtype.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

TEST(OpsDtype, every_type_of_a_file_comes_back_and_keeps_its_size) {
  for (const auto dtype : {base::DType::f64, base::DType::f32, base::DType::f16, base::DType::bf16,
                           base::DType::i64, base::DType::i32, base::DType::u8}) {
    EXPECT_EQ(from_torch(to_torch(dtype)), dtype) << base::name_of(dtype);
    EXPECT_EQ(at::elementSize(to_torch(dtype)), base::size_of(dtype)) << base::name_of(dtype);
  }
}

TEST(OpsDtype, half_types_are_not_mixed_up) {
  EXPECT_EQ(to_torch(base::DType::bf16), at::kBFloat16);
  EXPECT_EQ(to_torch(base::DType::f16), at::kHalf);
}

TEST(OpsDtype, a_type_that_no_file_holds_is_refused_by_name) {
  const auto sentence =
      tests::refusal<base::ShapeError>([] { (void)from_torch(at::kComplexDouble); });
  EXPECT_TRUE(tests::contains(sentence, "ComplexDouble")) << sentence;
  EXPECT_THROW((void)from_torch(at::kBool), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::ops
