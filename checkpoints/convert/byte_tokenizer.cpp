#include "checkpoints/convert/byte_tokenizer.h"

#include <array>
#include <string>

#include "checkpoints/convert/model_files.h"
#include "checkpoints/convert/pre_tokenizers.h"
#include "checkpoints/convert/tokenizer_parts.h"
#include "src/data/byte_alphabet.h"
#include "src/data/chat_template.h"

namespace dfmoa::checkpoints {
namespace {

using nlohmann::json;

constexpr std::array kSpecial{"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

}  // namespace

void write_byte_tokenizer(const std::filesystem::path& folder, std::int64_t max_positions) {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[data::written_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  }
  json added = json::array();
  for (const char* token : kSpecial) {
    const auto id = vocabulary.size();
    vocabulary[token] = id;
    added.push_back(added_token_json(token, static_cast<std::int64_t>(id), true));
  }
  const auto rule = pre_tokenizer_rule("gpt-2", folder.string());
  write_json(folder / "tokenizer.json",
             tokenizer_json({std::move(vocabulary), json::array(), std::move(added), rule,
                             byte_level_post_processor()}));
  const auto chatml = data::ChatTemplate::named("chatml", {kSpecial[1], kSpecial[2]});
  write_json(folder / "tokenizer_config.json",
             nlohmann::ordered_json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                    {"clean_up_tokenization_spaces", false},
                                    {"add_prefix_space", false},
                                    {"model_max_length", max_positions},
                                    {"bos_token", kSpecial[1]},
                                    {"eos_token", kSpecial[2]},
                                    {"unk_token", kSpecial[0]},
                                    {"pad_token", kSpecial[0]},
                                    {"chat_template", chatml.jinja()}});
}

}  // namespace dfmoa::checkpoints
