// The attributes of the root, ours and those of other programs.
#include "checkpoints/h5.h"
#include "checkpoints/manifest.h"
#include "src/base/error.h"
#include "tests/checkpoints/damage.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints::h5 {
namespace {

class H5Values : public CheckpointFolder {
 protected:
  std::filesystem::path path_ = folder_ / kDataName;

  std::string refusal() {
    const auto file = File::open(path_);
    return sentence_of<base::MachineError>([&] { (void)file.values(); });
  }
};

TEST_F(H5Values, a_long_text_and_many_values_come_back) {
  std::map<std::string, base::StateValue> values;
  for (int i = 0; i < 40; ++i) values["value " + std::to_string(i)] = std::int64_t{i};
  values["long"] = std::string(200000, 'x') + "end";  // more than an object header holds
  values["words"] = std::string("two lines\n\xC3\xBC\n");
  values["negative"] = -0.0;
  auto file = File::create(path_);
  for (const auto& [name, value] : values) file.write_value(name, value);
  file.close();
  EXPECT_EQ(File::open(path_).values(), values);
}

TEST_F(H5Values, a_text_with_a_nul_byte_is_refused) {
  auto file = File::create(path_);
  EXPECT_THROW(file.write_value("v", std::string("a\0b", 3)), base::MachineError);
}

TEST_F(H5Values, a_name_twice_is_refused) {
  auto file = File::create(path_);
  file.write_value("v", std::int64_t{1});
  EXPECT_THROW(file.write_value("v", std::int64_t{1}), base::MachineError);
}

/// An attribute that another program writes.
void write_foreign(hid_t file, const char* name, hid_t type, hid_t space, const void* data) {
  const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, type, data);
  H5Aclose(attribute);
}

TEST_F(H5Values, strings_of_variable_length_are_read) {
  File::create(path_).close();
  edit_h5(folder_, [](hid_t file) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    const char* words = "from h5py";
    write_foreign(file, "v", type, H5Screate(H5S_SCALAR), &words);
  });
  EXPECT_EQ(File::open(path_).values().at("v"), base::StateValue(std::string("from h5py")));
}

TEST_F(H5Values, an_array_is_no_value) {
  File::create(path_).close();
  edit_h5(folder_, [](hid_t file) {
    const hsize_t two = 2;
    const double pair[2] = {1, 2};
    write_foreign(file, "pair", H5T_IEEE_F64LE, H5Screate_simple(1, &two, nullptr), pair);
  });
  EXPECT_TRUE(says(refusal(), "value pair of " + path_.string() + ": expected a single value"));
}

TEST_F(H5Values, another_type_is_no_value) {
  File::create(path_).close();
  edit_h5(folder_, [](hid_t file) {
    const float number = 1;
    write_foreign(file, "single", H5T_IEEE_F32LE, H5Screate(H5S_SCALAR), &number);
  });
  EXPECT_TRUE(says(refusal(), "value single"));
}

}  // namespace
}  // namespace dfmoa::checkpoints::h5
