// The CUDA source on the emulation, its threads in three orders, beside every CPU level.
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/kernels/forms.h"
#include "tests/support/cuda_emulation/emulator.h"

namespace dfmoa::kernels_test {
namespace {

using cuda_emulation::Order;
using cuda_emulation::Settings;

const std::map<std::string, Settings>& orders() {
  static const std::map<std::string, Settings> all{{"cuda_forward", {Order::forward, 1}},
                                                   {"cuda_reverse", {Order::reverse, 1}},
                                                   {"cuda_random", {Order::random, 7}}};
  return all;
}

}  // namespace

std::vector<Form> all_forms() {
  auto forms = cpu_forms();
  for (const auto& [name, settings] : orders()) {
    forms.push_back({name, kernels::CpuLevel::reference, /*on_device=*/true});
  }
  return forms;
}

std::vector<Form> fast_forms() {
  return cpu_forms();
}

std::string device::missing() {
  return "";
}

std::shared_ptr<void> device::order_of(const Form& form) {
  return std::make_shared<cuda_emulation::OrderScope>(orders().at(form.name));
}

std::shared_ptr<void> device::allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  void* memory = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, std::free};
}

void device::copy_in(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

void device::copy_out(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

}  // namespace dfmoa::kernels_test
