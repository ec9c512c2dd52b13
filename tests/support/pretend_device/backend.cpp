// What torch asks of a device: memory, a guard, the ops that make and move tensors, and one boxed
// kernel for all others.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <atomic>
#include <cstring>
#include <stdexcept>

#include "src/base/text.h"
#include "tests/support/pretend_device/device_memory.h"
#include "tests/support/pretend_device/pretend_device.h"

namespace dfmoa::pretend {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

struct Counters {
  std::atomic<std::int64_t> host_reads{0}, to_host{0}, to_host_bytes{0}, to_device{0}, aten_ops{0};
};

Counters& counters() {
  static Counters all;
  return all;
}

/// Above 0 while an op's CPU kernel runs: the copies around it belong to the pretence.
thread_local int inside_op = 0;

struct InsideOp {
  InsideOp() { ++inside_op; }
  ~InsideOp() { --inside_op; }
  InsideOp(const InsideOp&) = delete;
  InsideOp& operator=(const InsideOp&) = delete;
  DeviceMemory::Access access;
};

struct Allocator final : c10::Allocator {
  static void free(void* pointer) { DeviceMemory::instance().give_back(pointer); }
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = DeviceMemory::instance().take(bytes);
    return {memory, memory, &free, c10::Device(kType, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    const DeviceMemory::Access access;
    std::memcpy(to, from, bytes);
  }
};

Allocator& allocator() {
  static Allocator all;
  return all;
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device());
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

const bool registered = [] {
  c10::SetAllocator(kType, &allocator());
  c10::register_privateuse1_backend("pretend");
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

/// The same memory as a CPU tensor, for use while it is open.
at::Tensor as_cpu(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU).requires_grad(false));
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator(), kKeys,
                                   at::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size),
                                           C10_AS_INTARRAYREF_SLOW(stride), &allocator(), kKeys,
                                           at::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (inside_op == 0 && from.is_cpu() != to.is_cpu()) {
    if (from.is_cpu()) {
      ++counters().to_device;
    } else {
      ++counters().to_host;
      counters().to_host_bytes += static_cast<std::int64_t>(to.nbytes());
    }
  }
  const DeviceMemory::Access access;
  const at::NoGradGuard no_grad;
  as_cpu(to.detach()).copy_(as_cpu(from.detach()));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  ++counters().host_reads;
  const DeviceMemory::Access access;
  return at::_local_scalar_dense(as_cpu(tensor));
}

at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  const auto begin =
      offset ? std::optional<std::int64_t>(offset->guard_int(__FILE__, __LINE__)) : std::nullopt;
  return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size),
                                           C10_AS_INTARRAYREF_SLOW(stride), begin);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size,
                         c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size),
                                    C10_AS_INTARRAYREF_SLOW(stride));
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef size,
                         std::optional<at::MemoryFormat> format) {
  const DeviceMemory::Access access;
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

/// Throws where tensors lie on two devices. A lone number may come from the host, as on a GPU.
void check_one_device(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  std::string on_host;
  bool on_device = false;
  const auto& arguments = op.schema().arguments();
  const auto see = [&](const at::Tensor& tensor, std::size_t i) {
    if (!tensor.defined()) return;
    if (tensor.is_cpu()) on_host = arguments[i].name();
    if (!tensor.is_cpu()) on_device = true;
  };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = stack[stack.size() - arguments.size() + i];
    if (value.isTensor()) {
      if (value.toTensor().defined() && value.toTensor().dim() > 0) see(value.toTensor(), i);
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorList()) see(tensor, i);
    } else if (value.isOptionalTensorList()) {
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList()) {
        if (tensor) see(*tensor, i);
      }
    }
  }
  if (on_host.empty() || !on_device) return;
  throw std::runtime_error(base::text("pretend accelerator: ", op.schema().name(),
                                      " was given tensors on two devices: ", on_host,
                                      " lies in host memory"));
}

/// Whether the host must wait for what the op finds: a number, or how large the result is.
bool is_host_read(const c10::OperatorHandle& op) {
  if (op.hasTag(at::Tag::dynamic_output_shape)) return true;
  for (const auto& result : op.schema().returns()) {
    const auto kind = result.type()->kind();
    if (kind != c10::TypeKind::TensorType && kind != c10::TypeKind::ListType) return true;
  }
  return false;
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  if (name.rfind("dfmoa::", 0) == 0) {
    throw std::runtime_error("pretend accelerator: " + name + " has no kernel for a device");
  }
  check_one_device(op, *stack);
  if (inside_op == 0 && is_host_read(op)) ++counters().host_reads;
  ++counters().aten_ops;
  const InsideOp inside;
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", local_scalar);
  library.impl("as_strided", as_strided);
  library.impl("view", view);
  library.impl("_reshape_alias", reshape_alias);
  library.impl("resize_", resize);
}

}  // namespace

at::Device device() {
  return {kType, 0};
}

Traffic traffic() {
  const auto& all = counters();
  return {all.host_reads, all.to_host, all.to_host_bytes, all.to_device, all.aten_ops};
}

Traffic operator-(const Traffic& after, const Traffic& before) {
  return {after.host_reads - before.host_reads, after.to_host - before.to_host,
          after.to_host_bytes - before.to_host_bytes, after.to_device - before.to_device,
          after.aten_ops - before.aten_ops};
}

}  // namespace dfmoa::pretend
