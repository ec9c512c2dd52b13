#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "checkpoints/convert/convert.h"
#include "src/base/error.h"
#include "src/data/tokenizer.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class ConvertGguf : public TemporaryFolder {
 protected:
  std::filesystem::path out_ = folder_ / "out";

  void convert(const SmallGguf& gguf, const ConvertOptions& options = {}) {
    convert_gguf(gguf.write(folder_), out_, options);
  }
  std::vector<float> tensor(const std::string& name) const {
    const auto store = formats::TensorStore::open(out_);
    const auto& view = store.get(name);
    std::vector<float> values(view.bytes.size() / sizeof(float));
    std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
    return values;
  }
  std::string refusal(const SmallGguf& gguf) {
    const auto sentence = sentence_of<base::ContentError>([&] { convert(gguf); });
    EXPECT_TRUE(nothing_left(out_)) << sentence;
    return sentence;
  }
};

/// Rows of 8, the first element of each divided by 2: row r holds 0.25 * 8 r - 3 at its begin.
std::vector<int> first_rows(const std::vector<float>& values) {
  std::vector<int> rows;
  for (std::size_t i = 0; i < values.size(); i += 8) {
    rows.push_back(static_cast<int>((values[i] + 3) / 2));
  }
  return rows;
}

TEST_F(ConvertGguf, puts_query_and_key_rows_back_within_each_head) {
  convert(SmallGguf());
  EXPECT_EQ(first_rows(tensor("model.layers.0.self_attn.q_proj.weight")),
            (std::vector{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(first_rows(tensor("model.layers.0.self_attn.k_proj.weight")),
            (std::vector{0, 2, 1, 3}));
  EXPECT_EQ(first_rows(tensor("model.layers.0.self_attn.v_proj.weight")),
            (std::vector{0, 1, 2, 3}));
  EXPECT_EQ(first_rows(tensor("model.layers.0.self_attn.o_proj.weight")),
            (std::vector{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(ConvertGguf, leaves_the_rows_of_qwen2_and_takes_its_biases) {
  SmallGguf gguf("qwen2", "qwen2");
  gguf.add("blk.0.attn_q.bias", {8});
  gguf.add("blk.0.attn_k.bias", {4});
  gguf.add("blk.0.attn_v.bias", {4});
  convert(gguf);
  EXPECT_EQ(first_rows(tensor("model.layers.0.self_attn.q_proj.weight")),
            (std::vector{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(tensor("model.layers.0.self_attn.k_proj.bias"),
            (std::vector{-3.0F, -2.75F, -2.5F, -2.25F}));
}

TEST_F(ConvertGguf, writes_every_file_and_our_tokenizer_reads_them) {
  convert(SmallGguf());
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json", "model.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(out_ / name)) << name;
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(out_), {}), 5);
  const auto tokenizer = data::Tokenizer::from_directory(out_);
  EXPECT_EQ(tokenizer.encode("ab<s>c"), (std::vector<std::int32_t>{256, 257, 'c'}));
  EXPECT_EQ(tokenizer.bos(), 257);
  EXPECT_EQ(tokenizer.eos(), 258);
}

TEST_F(ConvertGguf, names_the_missing_the_unknown_and_the_misshapen_tensor) {
  SmallGguf gguf;
  gguf.tensors.erase("blk.0.ffn_up.weight");
  EXPECT_TRUE(contains(refusal(gguf), "'blk.0.ffn_up.weight' is missing"));
  gguf.add("blk.0.ffn_up.weight", {8, 7});
  EXPECT_TRUE(contains(refusal(gguf), "'blk.0.ffn_up.weight' is (7, 8), expected (6, 8)"));
  gguf.add("blk.0.ffn_up.weight", {8, 6});
  gguf.add("blk.0.attn_q_norm.weight", {4});
  EXPECT_TRUE(contains(refusal(gguf), "'blk.0.attn_q_norm.weight' is no part of a llama model"));
}

TEST_F(ConvertGguf, names_the_tensor_that_is_not_finite_and_leaves_nothing) {
  for (const char* name : {"blk.0.ffn_up.weight", "output_norm.weight"}) {
    for (const bool nf4 : {false, true}) {
      SmallGguf gguf;
      gguf.tensors[name].values[5] = std::numeric_limits<float>::quiet_NaN();
      ConvertOptions options;
      options.nf4 = nf4;
      const auto sentence = sentence_of<base::ContentError>([&] { convert(gguf, options); });
      EXPECT_TRUE(contains(sentence, "holds NaN or infinity")) << sentence;
      EXPECT_TRUE(nothing_left(out_));
    }
  }
}

TEST_F(ConvertGguf, refuses_a_truncated_file) {
  const auto path = SmallGguf().write(folder_);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 64);
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { convert_gguf(path, out_, {}); }),
                       "truncated"));
  EXPECT_TRUE(nothing_left(out_));
}

TEST_F(ConvertGguf, says_what_the_user_typed_wrong) {
  ConvertOptions options;
  EXPECT_TRUE(contains(
      sentence_of<base::UsageError>([&] { checkpoints::convert(folder_ / "no", out_, options); }),
      "there is no such file or directory"));
  std::filesystem::create_directories(out_);
  formats::write_damaged(out_ / "mine", "x");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { convert(SmallGguf()); }), "not empty"));
  EXPECT_EQ(base::read_file(out_ / "mine"), "x");
  EXPECT_FALSE(std::filesystem::exists(out_.string() + ".tmp"));
}

/// A limit on the size of files fails write() as a full disk does.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, SIG_DFL);
  }

 private:
  rlimit before_{};
};

TEST_F(ConvertGguf, leaves_nothing_when_the_disk_is_full) {
  const auto path = SmallGguf().write(folder_);
  for (const rlim_t bytes : {100U, 600U, 9000U}) {  // in config.json, tokenizer.json, the weights
    const SmallDisk disk(bytes);
    EXPECT_TRUE(contains(sentence_of<base::MachineError>([&] { convert_gguf(path, out_, {}); }),
                         "writing"));
    EXPECT_TRUE(nothing_left(out_)) << bytes;
  }
  convert_gguf(path, out_, {});
}

}  // namespace
}  // namespace dfmoa::checkpoints
