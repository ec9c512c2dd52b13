// A temporary folder with the rings of several processes.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "distributed/comm/ring_file.h"

namespace dfmoa::comm {

class RingFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "dfmoa_ring_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] RingWriter writer(int process, int num_processes) const {
    return {ring_path(folder_, process), process, num_processes};
  }

  std::filesystem::path folder_;
};

}  // namespace dfmoa::comm
