// Checkpoints of states spread over processes that share no memory.
#include "distributed/comm/mpi.h"

#include <fstream>

#include "tests/checkpoints/stream_cases.h"

namespace dfmoa::checkpoints {
namespace {

class MpiStream : public testing::Test {
 protected:
  std::unique_ptr<comm::Communicator> comm_ = comm::make_mpi_world();
};

TEST_F(MpiStream, shows_every_entry_in_name_order_with_the_bytes_of_its_owner) {
  check_spreads(*comm_);
}

TEST_F(MpiStream, looks_only_at_what_the_owner_holds) {
  check_stale(*comm_);
}

TEST_F(MpiStream, a_visit_that_throws_stops_all_at_once) {
  check_throwing_visits(*comm_);
}

TEST_F(MpiStream, an_owner_without_data_stops_all) {
  check_missing_data(*comm_);
}

TEST_F(MpiStream, hash_does_not_depend_on_the_owners) {
  check_hashes(*comm_);
}

TEST_F(MpiStream, files_are_those_of_one_process) {
  const auto name = "dfmoa_checkpoints_mpi_" + std::to_string(::getpid());
  const auto folder =
      std::filesystem::temp_directory_path() / comm_->gather_text(name, "folder").front();
  check_files(*comm_, folder);
  if (comm_->process() == 0) std::filesystem::remove_all(folder);
}

std::int64_t resident_bytes() {
  std::int64_t all = 0;
  std::int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST_F(MpiStream, process_0_holds_one_batch_of_what_it_receives) {
  constexpr std::int64_t kArray = std::int64_t{1} << 20;
  constexpr int kArrays = 48;
  constexpr std::int64_t kLimit = 4 * kArray;
  const int owner = comm_->num_processes() - 1;
  std::vector<std::vector<unsigned char>> held;
  base::StateTree tree;
  for (int i = 0; i < kArrays; ++i) {
    void* data = nullptr;
    if (comm_->process() == owner) data = held.emplace_back(kArray, i).data();
    tree.add({"array/" + std::to_string(i), base::DType::u8, {kArray}, data, owner});
  }
  const auto before = resident_bytes();
  auto most = before;
  int visited = 0;
  stream_entries(tree, *comm_, kLimit, [&](const base::StateEntry& entry) {
    most = std::max(most, resident_bytes());
    EXPECT_EQ(static_cast<const unsigned char*>(entry.data)[kArray - 1],
              std::stoi(entry.name.substr(6)));
    ++visited;
  });
  most = std::max(most, resident_bytes());
  RecordProperty("grown_bytes", std::to_string(most - before));
  EXPECT_EQ(visited, comm_->process() == 0 ? kArrays : 0);
  // A batch, and what MPI and the allocator keep for themselves; a copy of all would be 48 MiB.
  EXPECT_LE(most - before, kLimit + 8 * kArray);
}

}  // namespace
}  // namespace dfmoa::checkpoints
