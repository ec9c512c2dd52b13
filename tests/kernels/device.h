// Where the CUDA source runs in this test program: on the emulation (emulated_device.cpp) or on a
// GPU (gpu_device.cpp). Its memory is reached by copies alone, as a GPU's is.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace dfmoa::kernels_test {

struct Form;

namespace device {

/// Why nothing can be launched here; empty where it can.
[[nodiscard]] std::string missing();

/// While it lives, launches run in the form's order of threads.
[[nodiscard]] std::shared_ptr<void> order_of(const Form& form);

/// At least one byte, aligned to 256; freed with its last owner.
[[nodiscard]] std::shared_ptr<void> allocate(std::size_t bytes);
void copy_in(void* to, const void* from, std::size_t bytes);
void copy_out(void* to, const void* from, std::size_t bytes);

}  // namespace device

/// A vector's twin on the device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host)
      : bytes_(host.size() * sizeof(T)), memory_(device::allocate(bytes_)) {
    if (bytes_ > 0) device::copy_in(memory_.get(), host.data(), bytes_);
  }

  [[nodiscard]] T* data() const { return static_cast<T*>(memory_.get()); }
  void read(T* host) const {
    if (bytes_ > 0) device::copy_out(host, memory_.get(), bytes_);
  }

 private:
  std::size_t bytes_;
  std::shared_ptr<void> memory_;
};

}  // namespace dfmoa::kernels_test
