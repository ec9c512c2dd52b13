// XXH3-128, the checksum of files, datasets, base models and parameters.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace dfmoa::base {

/// Streaming XXH3-128.
class Hash128 {
 public:
  Hash128();
  ~Hash128();
  Hash128(const Hash128&) = delete;
  Hash128& operator=(const Hash128&) = delete;

  void add(const void* data, std::size_t bytes);
  /// The length first, then the characters: "ab","c" and "a","bc" differ.
  void add_text(std::string_view text);
  /// 32 lower-case hexadecimal digits of everything added so far.
  [[nodiscard]] std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string hash128(const void* data, std::size_t bytes);

}  // namespace dfmoa::base
