// HDF5 identifiers as owners, its error stack as a sentence, its types as ours. Only h5*.cpp
// include this file.
#pragma once

#include <hdf5.h>

#include <string>

#include "src/base/dtype.h"
#include "src/base/handle.h"

namespace dfmoa::checkpoints::h5 {

template <herr_t (*Close)(hid_t)>
struct IdTraits {
  using type = hid_t;
  static constexpr hid_t invalid() noexcept { return -1; }
  static void close(hid_t id) noexcept { (void)Close(id); }
};
using DatasetId = base::UniqueHandle<IdTraits<H5Dclose>>;
using SpaceId = base::UniqueHandle<IdTraits<H5Sclose>>;
using TypeId = base::UniqueHandle<IdTraits<H5Tclose>>;
using PropertyId = base::UniqueHandle<IdTraits<H5Pclose>>;
using GroupId = base::UniqueHandle<IdTraits<H5Gclose>>;
using AttributeId = base::UniqueHandle<IdTraits<H5Aclose>>;

/// Before the first call of HDF5 in a function: no file locks, no printing by HDF5 itself (a
/// setting of the thread).
void prepare();

/// Innermost words of HDF5's error stack.
[[nodiscard]] std::string error_words();

/// Returns `result`; throws MachineError "doing: words" if it is negative.
hid_t check(hid_t result, const std::string& doing);

/// The dtype as it is stored: little-endian, f16 and bf16 as floats of two bytes.
[[nodiscard]] TypeId type_of(base::DType dtype);
/// Inverse of type_of. Throws MachineError for another type.
[[nodiscard]] base::DType dtype_of(hid_t type, const std::string& doing);

/// After a failed H5Fclose: HDF5 1.10.8 crashes when it cleans up at exit, so the process will
/// leave by _exit, with the status it would have had, before HDF5's handler is reached.
void leave_without_cleanup();

}  // namespace dfmoa::checkpoints::h5
