#include "src/data/tokenizer.h"

#include <mutex>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/bpe.h"
#include "src/data/byte_alphabet.h"
#include "src/data/nfc.h"
#include "src/data/utf8.h"
#include "src/data/vocabulary.h"
#include "src/data/word_cache.h"

namespace dfmoa::data {
namespace {

/// What one encoding thread needs; kept between calls for the words it has seen.
struct Scratch {
  MatchScratch match;
  MergeScratch merge;
  WordCache cache;
  std::vector<Symbol> symbols;
  std::vector<std::int32_t> ids;
  std::vector<AddedTokens::Segment> segments;
};

/// Lends a Scratch to each of the threads that encode at the same time.
class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(idle_.back());
    idle_.pop_back();
    return scratch;
  }
  void put_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_;
};

std::vector<AddedToken> tokens_looked_for(const std::vector<AddedToken>& all, bool normalized,
                                          bool is_nfc) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : all) {
    if (token.normalized != normalized) continue;
    if (normalized && is_nfc) {
      if (auto changed = nfc(token.content)) token.content = std::move(changed->text);
    }
    chosen.push_back(std::move(token));
  }
  return chosen;
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(TokenizerSpec spec)
      : vocabulary(spec),
        merges(vocabulary.merge_pairs(spec)),
        raw_tokens(tokens_looked_for(spec.added_tokens, false, spec.normalize_nfc)),
        normalized_tokens(tokens_looked_for(spec.added_tokens, true, spec.normalize_nfc)),
        pre_tokenizer(std::move(spec.splits), spec.prefix_step),
        prefix_ids(std::move(spec.prefix_ids)),
        suffix_ids(std::move(spec.suffix_ids)),
        ignore_merges(spec.ignore_merges),
        normalize_nfc(spec.normalize_nfc) {
    if (!spec.unk_token) return;
    const auto id = vocabulary.id_of(*spec.unk_token);
    if (!id) {
      throw base::ContentError(base::text(spec.where, ": model.unk_token: '", *spec.unk_token,
                                          "' is not in the vocabulary"));
    }
    unk_id = *id;
  }

  Vocabulary vocabulary;
  BpeMerges merges;
  AddedTokens raw_tokens;
  AddedTokens normalized_tokens;
  PreTokenizer pre_tokenizer;
  std::vector<std::int32_t> prefix_ids;
  std::vector<std::int32_t> suffix_ids;
  std::int32_t unk_id = Vocabulary::kNoToken;
  bool ignore_merges = false;
  bool normalize_nfc = false;
  SpecialIds special;
  ScratchPool pool;
};

namespace {

/// One call of encode.
template <class Parts>
class Encoder {
 public:
  Encoder(const Parts& parts, Scratch& scratch, Encoding& out, bool with_offsets)
      : parts_(parts), scratch_(scratch), out_(out), with_offsets_(with_offsets) {}

  void run(std::string_view text) {
    scratch_.segments.clear();
    parts_.raw_tokens.split(text, scratch_.match, scratch_.segments);
    const std::vector<AddedTokens::Segment> segments = scratch_.segments;
    for (const auto& segment : segments) {
      base_ = segment.begin;
      changed_.reset();
      if (segment.id != AddedTokens::kNoToken) {
        emit(segment.id, 0, segment.end - segment.begin);
        continue;
      }
      const std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
      if (parts_.normalize_nfc) changed_ = nfc(part);
      run_normalized(changed_ ? std::string_view(changed_->text) : part);
    }
  }

  /// Tokens put before or behind the text.
  void emit_around(const std::vector<std::int32_t>& ids, std::size_t at) {
    for (const std::int32_t id : ids) {
      out_.ids.push_back(id);
      if (with_offsets_) out_.offsets.emplace_back(at, at);
    }
  }

 private:
  void run_normalized(std::string_view text) {
    scratch_.segments.clear();
    parts_.normalized_tokens.split(text, scratch_.match, scratch_.segments);
    for (const auto& segment : scratch_.segments) {
      if (segment.id != AddedTokens::kNoToken) {
        emit(segment.id, segment.begin, segment.end);
        continue;
      }
      parts_.pre_tokenizer.for_each_word(
          text.substr(segment.begin, segment.end - segment.begin), scratch_.match,
          [&](const Word& word) { encode_word(word, segment.begin + word.begin); });
    }
  }

  void encode_word(const Word& word, std::size_t begin) {
    const auto known = scratch_.cache.find(word.bytes);
    if (!known.empty()) {
      std::size_t at = 0;
      for (const std::int32_t id : known) {
        const std::size_t end = with_offsets_ ? at + parts_.vocabulary.length_of(id) : 0;
        emit_in(word, begin, id, at, end);
        at = end;
      }
      return;
    }
    const bool is_whole = merge_word(word.bytes);
    for (const Symbol& symbol : scratch_.symbols) {
      emit_in(word, begin, symbol.id, symbol.begin, symbol.end);
    }
    if (!is_whole) return;
    scratch_.ids.clear();
    for (const Symbol& symbol : scratch_.symbols) scratch_.ids.push_back(symbol.id);
    scratch_.cache.keep(scratch_.ids);
  }

  /// Fills scratch.symbols; false if a byte has no token, for then lengths do not add up.
  bool merge_word(std::string_view bytes) {
    scratch_.symbols.clear();
    const auto size = static_cast<std::uint32_t>(bytes.size());
    if (parts_.ignore_merges) {
      if (const auto id = parts_.vocabulary.id_of(written_of_bytes(bytes))) {
        scratch_.symbols.push_back({*id, 0, size});
        return true;
      }
    }
    bool is_whole = true;
    for (std::uint32_t at = 0; at < size; ++at) {
      std::int32_t id = parts_.vocabulary.of_byte(static_cast<unsigned char>(bytes[at]));
      if (id == Vocabulary::kNoToken) {
        is_whole = false;
        id = parts_.unk_id;
      }
      if (id != Vocabulary::kNoToken) scratch_.symbols.push_back({id, at, at + 1});
    }
    parts_.merges.merge(scratch_.symbols, scratch_.merge);
    return is_whole;
  }

  void emit_in(const Word& word, std::size_t text_begin, std::int32_t id, std::size_t begin,
               std::size_t end) {
    const auto in_text = [&](std::size_t at) {
      return text_begin + (at < word.prefix ? 0 : at - word.prefix);
    };
    emit(id, in_text(begin), in_text(end));
  }

  /// `begin` and `end` count from the segment's start, in the normalised text.
  void emit(std::int32_t id, std::size_t begin, std::size_t end) {
    out_.ids.push_back(id);
    if (!with_offsets_) return;
    if (changed_) std::tie(begin, end) = changed_->source_of(begin, end);
    out_.offsets.emplace_back(base_ + begin, base_ + end);
  }

  const Parts& parts_;
  Scratch& scratch_;
  Encoding& out_;
  bool with_offsets_;
  std::size_t base_ = 0;
  std::optional<NfcText> changed_;
};

template <class Parts>
Encoding encode_text(const Parts& parts, ScratchPool& pool, std::string_view text, bool add_special,
                     bool with_offsets) {
  check_utf8(text, "tokenizer: the text");
  if (text.size() > UINT32_MAX - 1) {
    throw base::ContentError(
        base::text("tokenizer: a text has ", text.size(), " bytes, expected less than 4 GiB"));
  }
  Encoding out;
  auto scratch = pool.take();
  Encoder<Parts> encoder(parts, *scratch, out, with_offsets);
  if (add_special) encoder.emit_around(parts.prefix_ids, 0);
  encoder.run(text);
  if (add_special) encoder.emit_around(parts.suffix_ids, text.size());
  pool.put_back(std::move(scratch));
  return out;
}

}  // namespace

Tokenizer::Tokenizer(TokenizerSpec spec, SpecialIds special)
    : parts_(std::make_unique<Parts>(std::move(spec))) {
  parts_->special = std::move(special);
}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_directory(const std::filesystem::path& directory) {
  Tokenizer tokenizer(read_tokenizer_spec(directory));
  tokenizer.parts_->special =
      read_special_ids(directory, [&](std::string_view token) { return tokenizer.id_of(token); });
  return tokenizer;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  return encode_text(*parts_, parts_->pool, text, add_special, false).ids;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, bool add_special) const {
  return encode_text(*parts_, parts_->pool, text, add_special, true);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += bytes_of(id);
  }
  return with_replacement_characters(bytes);
}

const std::string& Tokenizer::bytes_of(std::int32_t id) const {
  return parts_->vocabulary.bytes_of(id);
}
std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  return parts_->vocabulary.id_of(token);
}
bool Tokenizer::is_special(std::int32_t id) const {
  return parts_->vocabulary.is_special(id);
}
std::int64_t Tokenizer::vocabulary() const {
  return parts_->vocabulary.size();
}
std::optional<std::int32_t> Tokenizer::bos() const {
  return parts_->special.bos;
}
std::optional<std::int32_t> Tokenizer::eos() const {
  return parts_->special.eos;
}
const std::vector<std::int32_t>& Tokenizer::stop_ids() const {
  return parts_->special.stop;
}

}  // namespace dfmoa::data
