// A model that was not loaded has the shapes and bytes of the one that was.
#include "src/model/shape_model.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/model/adapt.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

class ShapeModel : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void expect_same(const std::string& quantize, at::ScalarType dtype) const {
    const ModelConfig config{folder_.string(), quantize};
    const auto loaded = load_base_model(config, dtype);
    const auto shapes = shape_model(config, dtype);
    EXPECT_EQ(shapes->bytes, loaded->bytes);
    ASSERT_EQ(shapes->layers.size(), loaded->layers.size());
    for (std::size_t layer = 0; layer < shapes->layers.size(); ++layer) {
      for (std::size_t site = 0; site < kSites.size(); ++site) {
        const auto& one = shapes->layers[layer].linears[site];
        const auto& other = loaded->layers[layer].linears[site];
        ASSERT_EQ(one == nullptr, other == nullptr) << site;
        if (one == nullptr) continue;
        EXPECT_EQ(one->in_features(), other->in_features()) << site;
        EXPECT_EQ(one->out_features(), other->out_features()) << site;
      }
    }
    EXPECT_EQ(shapes->head_VD.sizes(), loaded->head_VD.sizes());
    EXPECT_EQ(shapes->embedding_VD.scalar_type(), dtype);
    const BlockShape block{shapes->architecture.hidden, shapes->architecture.heads,
                           shapes->architecture.kv_heads, shapes->architecture.head_dim};
    const auto plan = tests::experts_behind("softmax");
    const auto from_shapes = plan_blocks(plan, *shapes);
    const auto from_loaded = plan_blocks(plan, *loaded);
    for (std::size_t layer = 0; layer < from_shapes.size(); ++layer) {
      const auto specs = parameter_specs(from_shapes[layer], block);
      const auto expected = parameter_specs(from_loaded[layer], block);
      ASSERT_EQ(specs.size(), expected.size());
      for (std::size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(specs[i].shape, expected[i].shape);
    }
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / base::text("dfmoa_shape_model_", ::getpid());
};

TEST_F(ShapeModel, is_as_large_as_a_loaded_llama) {
  for (const bool tied : {false, true}) {
    TinyShape shape;
    shape.tied_head = tied;
    write_tiny_model(folder_, shape);
    for (const std::string quantize : {"auto", "nf4"}) {
      expect_same(quantize, at::kFloat);
      expect_same(quantize, at::kDouble);
    }
  }
}

TEST_F(ShapeModel, is_as_large_as_a_loaded_gpt2) {
  write_tiny_gpt2(folder_);
  expect_same("auto", at::kFloat);
  expect_same("nf4", at::kFloat);
}

TEST_F(ShapeModel, counts_a_model_that_is_stored_quantised) {
  write_tiny_model(folder_);
  const auto plain = shape_model({folder_.string(), "auto"}, at::kFloat);
  auto config = nlohmann::json::parse(base::read_file(folder_ / "config.json"));
  config["quantization_config"] = {{"quant_method", "bitsandbytes"}};
  base::write_file(folder_ / "config.json", config.dump());
  const auto quantised = shape_model({folder_.string(), "auto"}, at::kFloat);
  EXPECT_LT(quantised->bytes, plain->bytes);
  EXPECT_EQ(quantised->bytes, shape_model({folder_.string(), "nf4"}, at::kFloat)->bytes);
}

TEST_F(ShapeModel, has_no_numbers_to_compute_with) {
  write_tiny_model(folder_);
  const auto shapes = shape_model({folder_.string(), "auto"}, at::kFloat);
  const auto& linear = *shapes->layers[0].linears[0];
  EXPECT_THROW((void)linear.forward(at::zeros({2, 16})), base::ShapeError);
  EXPECT_THROW((void)linear.rows(0, 4)->backward(at::zeros({2, 4})), base::ShapeError);
  EXPECT_EQ(linear.rows(0, 4)->out_features(), 4);
  EXPECT_THROW((void)shape_model({(folder_ / "nowhere").string(), "auto"}, at::kFloat),
               base::UsageError);
}

}  // namespace
}  // namespace dfmoa::model
