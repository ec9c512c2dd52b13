#include "checkpoints/h5_handles.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints::h5 {
namespace {

constexpr std::array kDTypes{base::DType::f64,  base::DType::f32, base::DType::f16,
                             base::DType::bf16, base::DType::i64, base::DType::i32,
                             base::DType::u8};

struct FloatLayout {
  std::size_t exponent_bits;
  std::size_t mantissa_bits;
  std::size_t bias;
};

TypeId two_byte_float(const FloatLayout& layout) {
  TypeId type(check(H5Tcopy(H5T_IEEE_F32LE), "describing a float of two bytes"));
  check(H5Tset_fields(type.get(), 15, layout.mantissa_bits, layout.exponent_bits, 0,
                      layout.mantissa_bits),
        "describing a float of two bytes");
  check(H5Tset_size(type.get(), 2), "describing a float of two bytes");
  check(H5Tset_ebias(type.get(), layout.bias), "describing a float of two bytes");
  return type;
}

TypeId copy_of(hid_t type) {
  return TypeId(check(H5Tcopy(type), "copying an HDF5 type"));
}

struct Words {
  std::string function;
  std::string description;
};

/// The walk goes from the innermost error outward; the first one is the cause.
herr_t first_error(unsigned index, const H5E_error2_t* error, void* into) {
  if (index == 0) {
    auto* words = static_cast<Words*>(into);
    words->function = error->func_name != nullptr ? error->func_name : "";
    words->description = error->desc != nullptr ? error->desc : "";
  }
  return 0;
}

/// Of "file write failed: time = ..., errno = 28, error message = 'No space left on device', ...",
/// which goes over two lines, what the system said; else all of it.
std::string reason_in(const std::string& description) {
  constexpr std::string_view kMark = "error message = '";
  const auto mark = description.find(kMark);
  if (mark == std::string::npos) return description;
  const auto begin = mark + kMark.size();
  return description.substr(begin, description.find('\'', begin) - begin);
}

void leave_now(int status, void* /*unused*/) {
  std::fflush(nullptr);
  ::_exit(status);
}

}  // namespace

void prepare() {
  // Lustre and NFS often refuse HDF5's locks; the run's own lock guards the folder.
  static const bool kUnlocked = ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1) == 0;
  if (!kUnlocked) base::throw_errno("setting HDF5_USE_FILE_LOCKING");
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

std::string error_words() {
  Words words;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_error, &words);
  H5Eclear2(H5E_DEFAULT);
  if (words.description.empty()) return "HDF5 gave no reason";
  return base::text("HDF5 says ", reason_in(words.description), " (", words.function, ")");
}

hid_t check(hid_t result, const std::string& doing) {
  if (result < 0) throw base::MachineError(base::text(doing, ": ", error_words()));
  return result;
}

TypeId type_of(base::DType dtype) {
  switch (dtype) {
    case base::DType::f64:
      return copy_of(H5T_IEEE_F64LE);
    case base::DType::f32:
      return copy_of(H5T_IEEE_F32LE);
    case base::DType::f16:
      return two_byte_float({.exponent_bits = 5, .mantissa_bits = 10, .bias = 15});
    case base::DType::bf16:
      return two_byte_float({.exponent_bits = 8, .mantissa_bits = 7, .bias = 127});
    case base::DType::i64:
      return copy_of(H5T_STD_I64LE);
    case base::DType::i32:
      return copy_of(H5T_STD_I32LE);
    case base::DType::u8:
      return copy_of(H5T_STD_U8LE);
  }
  throw base::MachineError("an element type is none of F64 F32 F16 BF16 I64 I32 U8");
}

base::DType dtype_of(hid_t type, const std::string& doing) {
  for (const auto dtype : kDTypes) {
    if (H5Tequal(type, type_of(dtype).get()) > 0) return dtype;
  }
  throw base::MachineError(
      base::text(doing, ": its element type is none of F64 F32 F16 BF16 I64 I32 U8"));
}

void leave_without_cleanup() {
  // Handlers run in reverse order of registration: this one comes before HDF5's.
  if (::on_exit(leave_now, nullptr) != 0) leave_now(static_cast<int>(base::ExitCode::machine), {});
}

}  // namespace dfmoa::checkpoints::h5
