// RAII for foreign handles: file descriptors, HDF5 ids, MPI communicators.
#pragma once

#include <utility>

namespace dfmoa::base {

/// Owns one handle. Traits give `type`, `invalid()` and a noexcept `close(type)`.
template <class Traits>
class UniqueHandle {
 public:
  using Type = typename Traits::type;

  UniqueHandle() = default;
  explicit UniqueHandle(Type handle) noexcept : handle_(handle) {}
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueHandle() { reset(); }

  [[nodiscard]] Type get() const noexcept { return handle_; }
  [[nodiscard]] explicit operator bool() const noexcept { return handle_ != Traits::invalid(); }
  [[nodiscard]] Type release() noexcept { return std::exchange(handle_, Traits::invalid()); }
  void reset(Type handle = Traits::invalid()) noexcept {
    if (handle_ != Traits::invalid()) Traits::close(handle_);
    handle_ = handle;
  }

 private:
  Type handle_ = Traits::invalid();
};

}  // namespace dfmoa::base
