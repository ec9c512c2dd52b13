#include "distributed/comm/host.h"

#include <gtest/gtest.h>

#include "distributed/comm/local.h"

namespace dfmoa::comm {
namespace {

TEST(HostName, is_that_of_the_system) {
  std::string said = host_name();
  EXPECT_FALSE(said.empty());
  EXPECT_EQ(said.find('\0'), std::string::npos);
}

TEST(HostPlace, counts_the_processes_of_every_host_in_their_order) {
  const std::vector<std::string> hosts{"a", "b", "a", "a", "b"};
  const std::vector<int> index{0, 0, 1, 2, 1};
  run_local(5, [&](Communicator& comm) {
    const auto here = static_cast<std::size_t>(comm.process());
    const auto place = place_on_host(comm, hosts[here]);
    EXPECT_EQ(place.index, index[here]) << here;
    EXPECT_EQ(place.processes, hosts[here] == "a" ? 3 : 2) << here;
  });
}

}  // namespace
}  // namespace dfmoa::comm
