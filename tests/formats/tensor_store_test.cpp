#include "src/formats/tensor_store.h"

#include <array>
#include <cstring>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

class Store : public TemporaryFolder {
 protected:
  /// One F32 value per name.
  void write_shard(const std::string& file, const std::vector<std::string>& names) {
    static constexpr std::array<float, 1> kValue{1};
    std::vector<TensorView> tensors;
    for (const auto& name : names) {
      tensors.push_back({name, base::DType::f32, {1}, std::as_bytes(std::span(kValue))});
    }
    write_safetensors(folder_ / file, tensors);
  }
  void write_index(const std::string& weight_map) {
    base::write_file(folder_ / "model.safetensors.index.json",
                     R"({"metadata":{"total_size":8},"weight_map":)" + weight_map + "}");
  }
  std::string refusal() {
    return sentence_of<base::ContentError>([&] { static_cast<void>(TensorStore::open(folder_)); });
  }
};

TEST_F(Store, one_file_gives_its_tensors_by_name) {
  write_shard("model.safetensors", {"b", "a"});
  const auto store = TensorStore::open(folder_);
  EXPECT_EQ(store.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(store.get("b").name, "b");
  EXPECT_EQ(store.find("c"), nullptr);
  EXPECT_EQ(store.paths(), std::vector{folder_ / "model.safetensors"});
  EXPECT_EQ(store.folder(), folder_);
}

TEST_F(Store, shards_are_one_set_in_order_of_name_and_survive_a_move) {
  write_shard("two", {"a", "d"});
  write_shard("one", {"c", "b"});
  write_index(R"({"a":"two","d":"two","b":"one","c":"one"})");
  auto store = TensorStore::open(folder_);
  const auto moved = std::move(store);
  EXPECT_EQ(moved.names(), (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(moved.paths().size(), 2U);
  float value = 0;
  std::memcpy(&value, moved.get("d").bytes.data(), sizeof(value));
  EXPECT_EQ(value, 1.0F);
}

TEST_F(Store, absent_tensor_is_named_with_the_nearest) {
  write_shard("model.safetensors", {"model.norm.weight", "lm_head.weight"});
  const auto store = TensorStore::open(folder_);
  const auto sentence =
      sentence_of<base::ContentError>([&] { static_cast<void>(store.get("norm.weight")); });
  EXPECT_TRUE(contains(sentence, "lack tensor 'norm.weight'"));
  EXPECT_TRUE(contains(sentence, "'model.norm.weight'"));
}

TEST_F(Store, folder_without_weights_is_the_users) {
  EXPECT_THROW(static_cast<void>(TensorStore::open(folder_)), base::UsageError);
  EXPECT_THROW(static_cast<void>(TensorStore::open(folder_ / "none")), base::UsageError);
}

TEST_F(Store, index_that_names_a_missing_shard_is_refused) {
  write_shard("one", {"a"});
  write_index(R"({"a":"one","b":"two"})");
  EXPECT_TRUE(contains(refusal(), "tensor 'b' lies in 'two', which is missing"));
}

TEST_F(Store, index_and_shards_must_agree_on_every_tensor) {
  write_shard("one", {"a", "renamed"});
  write_index(R"({"a":"one","b":"one"})");
  EXPECT_TRUE(contains(refusal(), "places tensor 'renamed' nowhere"));
  write_shard("one", {"a"});
  EXPECT_TRUE(contains(refusal(), "tensor 'b' is not in its shard 'one'"));
  write_shard("two", {"b"});
  write_shard("one", {"a", "b"});
  write_index(R"({"a":"one","b":"two"})");
  EXPECT_TRUE(contains(refusal(), "places tensor 'b' in 'two'"));
}

TEST_F(Store, malformed_index_is_refused) {
  write_index("[]");
  EXPECT_TRUE(contains(refusal(), "no object 'weight_map'"));
  write_index(R"({"a":1})");
  EXPECT_TRUE(contains(refusal(), "tensor 'a' has no file name"));
  for (const auto* outside : {"../x", "/etc/passwd", "sub/x", "..", ".", ""}) {
    write_index(std::string(R"({"a":")") + outside + "\"}");
    EXPECT_TRUE(contains(refusal(), "in the same folder")) << outside;
  }
}

}  // namespace
}  // namespace dfmoa::formats
