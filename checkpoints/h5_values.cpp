// The attributes of the root: File::write_value and File::values.
#include <cstdlib>
#include <memory>
#include <type_traits>

#include "checkpoints/h5.h"
#include "checkpoints/h5_handles.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints::h5 {
namespace {

/// Fixed length, padded with NUL, UTF-8. HDF5 has no string of length 0: an empty one is one NUL.
TypeId string_type(std::size_t bytes, const std::string& doing) {
  TypeId type(check(H5Tcopy(H5T_C_S1), doing));
  check(H5Tset_size(type.get(), bytes == 0 ? 1 : bytes), doing);
  check(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), doing);
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), doing);
  return type;
}

void write_attribute(hid_t file, const std::string& name, hid_t type, const void* data,
                     const std::string& doing) {
  const SpaceId space(check(H5Screate(H5S_SCALAR), doing));
  const AttributeId attribute(
      check(H5Acreate2(file, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), doing));
  check(H5Awrite(attribute.get(), type, data), doing);
}

std::string variable_string(hid_t attribute, hid_t type, const std::string& doing) {
  char* words = nullptr;
  check(H5Aread(attribute, type, &words), doing);
  const std::unique_ptr<char, herr_t (*)(void*)> owner(words, H5free_memory);
  return words == nullptr ? std::string() : std::string(words);
}

std::string fixed_string(hid_t attribute, hid_t type, const std::string& doing) {
  std::string words(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, words.data()), doing);
  const auto end = words.find('\0');
  return end == std::string::npos ? words : words.substr(0, end);
}

base::StateValue value_of(hid_t attribute, const std::string& doing) {
  const SpaceId space(check(H5Aget_space(attribute), doing));
  if (check(H5Sget_simple_extent_npoints(space.get()), doing) != 1) {
    throw base::MachineError(base::text(doing, ": expected a single value"));
  }
  const TypeId type(check(H5Aget_type(attribute), doing));
  if (H5Tget_class(type.get()) == H5T_STRING) {
    return H5Tis_variable_str(type.get()) > 0 ? variable_string(attribute, type.get(), doing)
                                              : fixed_string(attribute, type.get(), doing);
  }
  if (H5Tequal(type.get(), H5T_STD_I64LE) > 0) {
    std::int64_t number = 0;
    check(H5Aread(attribute, H5T_NATIVE_INT64, &number), doing);
    return number;
  }
  if (H5Tequal(type.get(), H5T_IEEE_F64LE) > 0) {
    double number = 0;
    check(H5Aread(attribute, H5T_NATIVE_DOUBLE, &number), doing);
    return number;
  }
  throw base::MachineError(base::text(doing, ": expected a 64-bit integer, a double or a string"));
}

std::string name_of(hid_t attribute, const std::string& doing) {
  const auto length = check(H5Aget_name(attribute, 0, nullptr), doing);
  std::string name(static_cast<std::size_t>(length) + 1, '\0');
  check(H5Aget_name(attribute, name.size(), name.data()), doing);
  name.pop_back();
  return name;
}

}  // namespace

void File::write_value(const std::string& name, const base::StateValue& value) {
  prepare();
  const auto doing = base::text("writing value ", name, " of ", path_.string());
  const auto write = [&](const auto& held) {
    using Held = std::decay_t<decltype(held)>;
    if constexpr (std::is_same_v<Held, std::string>) {
      if (held.find('\0') != std::string::npos) {
        throw base::MachineError(base::text(doing, ": a text with a NUL byte cannot be stored"));
      }
      write_attribute(id_.get(), name, string_type(held.size(), doing).get(), held.c_str(), doing);
    } else {
      const hid_t type = std::is_same_v<Held, double> ? H5T_IEEE_F64LE : H5T_STD_I64LE;
      write_attribute(id_.get(), name, type, &held, doing);
    }
  };
  std::visit(write, value);
}

std::map<std::string, base::StateValue> File::values() const {
  prepare();
  const auto doing = base::text("reading the values of ", path_.string());
  H5O_info_t info;
  check(H5Oget_info2(id_.get(), &info, H5O_INFO_NUM_ATTRS), doing);
  std::map<std::string, base::StateValue> values;
  for (hsize_t index = 0; index < info.num_attrs; ++index) {
    const AttributeId attribute(check(
        H5Aopen_by_idx(id_.get(), ".", H5_INDEX_NAME, H5_ITER_INC, index, H5P_DEFAULT, H5P_DEFAULT),
        doing));
    const auto name = name_of(attribute.get(), doing);
    values.emplace(name, value_of(attribute.get(),
                                  base::text("reading value ", name, " of ", path_.string())));
  }
  return values;
}

}  // namespace dfmoa::checkpoints::h5
