#include "checkpoints/h5_handles.h"

#include <cstdlib>
#include <tuple>

#include "src/base/error.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints::h5 {
namespace {

using base::DType;

class H5Types : public testing::TestWithParam<DType> {};

TEST_P(H5Types, come_back_with_their_size) {
  prepare();
  const auto type = type_of(GetParam());
  EXPECT_EQ(H5Tget_size(type.get()), base::size_of(GetParam()));
  EXPECT_EQ(dtype_of(type.get(), "asking"), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, H5Types,
                         testing::Values(DType::f64, DType::f32, DType::f16, DType::bf16,
                                         DType::i64, DType::i32, DType::u8));

/// HDF5's own conversion must see the value that the two bytes stand for.
TEST(H5Handles, two_byte_floats_have_their_values) {
  prepare();
  for (const auto& [dtype, bits, value] :
       {std::tuple{DType::f16, 0xC500, -5.0F}, std::tuple{DType::f16, 0x0001, 0x1p-24F},
        std::tuple{DType::bf16, 0x3FC0, 1.5F}, std::tuple{DType::bf16, 0xFF7F, -0x1.FEp127F}}) {
    float buffer = 0;
    const auto half = static_cast<std::uint16_t>(bits);
    std::memcpy(&buffer, &half, sizeof(half));
    const auto type = type_of(dtype);
    ASSERT_GE(H5Tconvert(type.get(), H5T_NATIVE_FLOAT, 1, &buffer, nullptr, H5P_DEFAULT), 0);
    EXPECT_EQ(buffer, value);
  }
}

TEST(H5Handles, a_type_that_the_format_does_not_know_is_refused) {
  prepare();
  for (const auto type : {H5T_STD_I16LE, H5T_IEEE_F32BE, H5T_C_S1}) {
    EXPECT_EQ(sentence_of<base::MachineError>([&] { (void)dtype_of(type, "reading x"); }),
              "reading x: its element type is none of F64 F32 F16 BF16 I64 I32 U8");
  }
}

TEST(H5Handles, check_says_what_was_done_and_why_it_failed) {
  prepare();
  EXPECT_EQ(check(7, "counting"), 7);
  const auto sentence = sentence_of<base::MachineError>(
      [] { check(H5Fopen("/no/such/file", H5F_ACC_RDONLY, H5P_DEFAULT), "opening it"); });
  EXPECT_TRUE(says(sentence, "opening it: HDF5 says No such file or directory ("));
  EXPECT_EQ(sentence_of<base::MachineError>([] { check(-1, "again"); }),
            "again: HDF5 gave no reason");
}

TEST(H5HandlesDeathTest, leaving_without_cleanup_keeps_the_exit_status) {
  EXPECT_EXIT(
      {
        prepare();
        leave_without_cleanup();
        std::exit(3);
      },
      testing::ExitedWithCode(3), "");
}

}  // namespace
}  // namespace dfmoa::checkpoints::h5
