#include "src/base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "src/base/error.h"
#include "src/base/file.h"

using namespace dfmoa::base;

TEST(Log, a_file_holds_every_sentence_at_once) {
  const auto path =
      std::filesystem::temp_directory_path() / ("dfmoa_log_" + std::to_string(::getpid()));
  Logger log;
  log.add_file(path);
  log.info("one {} and");
  log.debug("unheard");
  log.warn("two");
  const auto text = read_file(path);
  EXPECT_NE(text.find(" info one {} and\n"), std::string::npos) << text;
  EXPECT_NE(text.find(" warning warning: two\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("unheard"), std::string::npos) << text;
  std::filesystem::remove(path);
}

TEST(Log, a_full_disk_is_an_error_of_the_machine) {
  Logger log;
  log.add_file("/dev/full");
  EXPECT_THROW(log.info("lost"), MachineError);
  EXPECT_THROW(Logger().add_file("/dev/null/log.txt"), MachineError);
}
