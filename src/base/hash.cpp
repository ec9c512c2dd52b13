#include "src/base/hash.h"

#include <xxhash.h>

#include <cstdint>
#include <cstdio>

#include "src/base/error.h"

namespace dfmoa::base {

struct Hash128::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() {
    if (xxh == nullptr || XXH3_128bits_reset(xxh) != XXH_OK) {
      throw MachineError("hashing: no memory for the state");
    }
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

namespace {

std::string hex_of(XXH128_hash_t hash) {
  char digits[33];
  std::snprintf(digits, sizeof(digits), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return digits;
}

}  // namespace

Hash128::Hash128() : state_(std::make_unique<State>()) {}
Hash128::~Hash128() = default;

void Hash128::add(const void* data, std::size_t bytes) {
  if (XXH3_128bits_update(state_->xxh, data, bytes) != XXH_OK) {
    throw MachineError("hashing: the update failed");
  }
}

void Hash128::add_text(std::string_view text) {
  const std::uint64_t length = text.size();
  add(&length, sizeof(length));
  add(text.data(), text.size());
}

std::string Hash128::hex() const {
  return hex_of(XXH3_128bits_digest(state_->xxh));
}

std::string hash128(const void* data, std::size_t bytes) {
  return hex_of(XXH3_128bits(data, bytes));
}

}  // namespace dfmoa::base
