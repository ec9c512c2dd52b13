#include "checkpoints/convert/options.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace dfmoa::checkpoints {
namespace {

TEST(Options, fields_accept_the_two_element_types) {
  ConvertOptions options;
  auto fields = base::FieldList::of(options);
  EXPECT_EQ(options.checked_dtype(), base::DType::f32);
  fields.assign("convert", "dtype", "bf16");
  EXPECT_EQ(options.checked_dtype(), base::DType::bf16);
  EXPECT_THROW(fields.assign("convert", "dtype", "f16"), base::UsageError);
}

TEST(Options, wrong_ones_are_refused) {
  ConvertOptions options;
  options.double_quant = true;
  EXPECT_THROW(static_cast<void>(options.checked_dtype()), base::UsageError);
  options.nf4 = true;
  EXPECT_EQ(options.checked_dtype(), base::DType::f32);
  options.dtype = "f16";
  EXPECT_THROW(static_cast<void>(options.checked_dtype()), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
