// Byte-level BPE: text to token ids and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/data/special_ids.h"
#include "src/data/tokenizer_json.h"

namespace dfmoa::data {

/// Ids and, for each, the bytes [begin, end) of the text it stands for. Tokens that are put before
/// or behind the text stand for no byte; a token may end inside a character.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::pair<std::size_t, std::size_t>> offsets;
};

/// Immutable; threads may share it. Equal to the tokenizers library, id for id.
class Tokenizer {
 public:
  /// Reads the tokenizer of a model directory and its begin and end tokens.
  /// Throws what read_tokenizer_spec and read_special_ids throw.
  static Tokenizer from_directory(const std::filesystem::path& directory);

  /// Throws ContentError when the parts contradict each other: two tokens of one id, a merge of or
  /// into something that is no token, an id out of range.
  explicit Tokenizer(TokenizerSpec spec, SpecialIds special = {});
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Special tokens written in the text are encoded as such. `add_special` puts the begin (and end)
  /// token where the tokenizer's post-processor does; a text rendered by a chat template already
  /// has it. A byte without a token becomes the unknown token or, if the tokenizer has none,
  /// nothing.
  /// Throws ContentError unless the text is well-formed UTF-8 of less than 4 GiB.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text,
                                                 bool add_special = false) const;
  [[nodiscard]] Encoding encode_with_offsets(std::string_view text, bool add_special = false) const;

  /// The text of the tokens; what is not well-formed UTF-8 becomes U+FFFD.
  /// Throws ContentError when an id is not in the vocabulary.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   bool skip_special = false) const;

  /// The bytes a token stands for, possibly a part of a character. Throws as decode.
  [[nodiscard]] const std::string& bytes_of(std::int32_t id) const;

  /// The id of a token as the files write it ("<bos>", "\u0120the").
  [[nodiscard]] std::optional<std::int32_t> id_of(std::string_view token) const;

  [[nodiscard]] bool is_special(std::int32_t id) const;

  /// One more than the largest id. A model's embedding may have more rows, never fewer.
  [[nodiscard]] std::int64_t vocabulary() const;

  [[nodiscard]] std::optional<std::int32_t> bos() const;
  [[nodiscard]] std::optional<std::int32_t> eos() const;
  [[nodiscard]] const std::vector<std::int32_t>& stop_ids() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace dfmoa::data
