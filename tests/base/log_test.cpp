#include "src/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>

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

/// What `speak` writes to a terminal of 20 columns.
std::string on_a_terminal(const std::function<void()>& speak) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_EQ(::grantpt(master) + ::unlockpt(master), 0);
  const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  const winsize size{24, 20, 0, 0};
  EXPECT_EQ(::ioctl(slave, TIOCSWINSZ, &size), 0);
  const int kept = ::dup(STDERR_FILENO);
  ::dup2(slave, STDERR_FILENO);
  ::setenv("TERM", "xterm", 1);
  speak();
  // A terminal hands over what it was given in as many pieces as it likes: read up to this mark.
  const std::string mark = "[end]";
  std::fputs(mark.c_str(), stderr);
  std::fflush(stderr);
  ::dup2(kept, STDERR_FILENO);
  ::close(kept);
  std::string text;
  std::array<char, 64> piece{};
  while (!text.ends_with(mark)) {
    const auto bytes = ::read(master, piece.data(), piece.size());
    if (bytes <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(bytes));
  }
  EXPECT_TRUE(text.ends_with(mark)) << text;
  text.resize(text.size() - std::min(text.size(), mark.size()));
  ::close(slave);
  ::close(master);
  return text;
}

TEST(Log, a_terminal_sees_progress_on_one_line_and_the_file_every_step) {
  const auto path =
      std::filesystem::temp_directory_path() / ("dfmoa_progress_" + std::to_string(::getpid()));
  const auto shown = on_a_terminal([&] {
    Logger log;
    log.add_file(path);
    log.progress("step 1/3");
    log.progress("step 2/3 and more than 20 columns");
    log.info("saved");
    log.progress("step 3/3");
  });
  EXPECT_EQ(shown, "\r\033[Kstep 1/3\r\033[Kstep 2/3 and more t\r\nsaved\r\n\r\033[Kstep 3/3\r\n");
  const auto text = read_file(path);
  for (const std::string line :
       {" step 1/3\n", " step 2/3 and more than 20 columns\n", " saved\n", " step 3/3\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << text;
  }
  std::filesystem::remove(path);
}

TEST(Log, a_full_disk_is_an_error_of_the_machine) {
  Logger log;
  log.add_file("/dev/full");
  EXPECT_THROW(log.info("lost"), MachineError);
  EXPECT_THROW(Logger().add_file("/dev/null/log.txt"), MachineError);
}
