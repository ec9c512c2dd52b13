#include "src/ops/device.h"

#include "kernels/cuda/launch.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::ops {
namespace {

TEST(ChooseDevice, cpu_is_always_the_cpu) {
  EXPECT_EQ(choose_device("cpu", 3, "train.device"), at::Device(at::kCPU));
}

TEST(ChooseDevice, auto_takes_the_cpu_where_no_gpu_can_be_used) {
  const bool has_gpu = kernels::cuda::is_built() && at::hasCUDA();
  EXPECT_EQ(choose_device("auto", 0, "train.device").is_cpu(), !has_gpu);
}

TEST(ChooseDevice, the_log_says_why_auto_took_the_cpu) {
  EXPECT_TRUE(tests::contains(describe_device("auto", at::kCPU), "no GPU"));
  EXPECT_EQ(describe_device("cpu", at::kCPU), "the CPU");
  EXPECT_EQ(describe_device("auto", at::Device(at::kCUDA, 1)), "cuda:1");
}

TEST(ChooseDevice, cuda_says_what_is_missing) {
  if (kernels::cuda::is_built() && at::hasCUDA()) {
    EXPECT_EQ(choose_device("cuda", 0, "train.device"), at::Device(at::kCUDA, 0));
    return;
  }
  const auto sentence =
      tests::refusal<base::UsageError>([] { (void)choose_device("cuda", 0, "--device"); });
  EXPECT_TRUE(tests::contains(sentence, "--device = cuda") && tests::contains(sentence, "no GPU") &&
              tests::contains(sentence, "choose cpu"))
      << sentence;
}

TEST(ChooseDevice, another_name_is_refused) {
  const auto sentence =
      tests::refusal<base::UsageError>([] { (void)choose_device("tpu", 0, "train.device"); });
  EXPECT_TRUE(tests::contains(sentence, "train.device = tpu: expected auto, cpu or cuda"))
      << sentence;
}

}  // namespace
}  // namespace dfmoa::ops
