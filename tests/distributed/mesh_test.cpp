#include "distributed/mesh.h"

#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

TEST(Mesh, neighbours_share_experts_and_equal_places_own_the_same) {
  for (const auto& [processes, expert] :
       std::vector<std::pair<int, int>>{{1, 1}, {4, 1}, {4, 2}, {4, 4}, {6, 3}}) {
    comm::run_local(processes, [&, size = expert](comm::Communicator& world) {
      const Mesh mesh(world, size);
      EXPECT_EQ(&mesh.world(), &world);
      EXPECT_EQ(mesh.experts().num_processes(), size);
      EXPECT_EQ(mesh.copies().num_processes(), world.num_processes() / size);
      EXPECT_EQ(mesh.copies().process() * size + mesh.experts().process(), world.process());
      // Who is in a group, not only how many: sums of powers of two name the members.
      std::int64_t together = std::int64_t{1} << world.process();
      auto alike = together;
      mesh.experts().all_reduce(&together, 1, base::DType::i64, comm::Op::sum, "test");
      mesh.copies().all_reduce(&alike, 1, base::DType::i64, comm::Op::sum, "test");
      std::int64_t neighbours = 0;
      std::int64_t equals = 0;
      for (int p = 0; p < world.num_processes(); ++p) {
        if (p / size == world.process() / size) neighbours += std::int64_t{1} << p;
        if (p % size == world.process() % size) equals += std::int64_t{1} << p;
      }
      EXPECT_EQ(together, neighbours);
      EXPECT_EQ(alike, equals);
    });
  }
}

TEST(Mesh, one_of_all_copies_speaks_for_a_place) {
  comm::run_local(6, [](comm::Communicator& world) {
    const Mesh mesh(world, 3);
    EXPECT_EQ(mesh.speaks(), world.process() < 3);
    EXPECT_EQ(mesh.speaks(), mesh.experts().process() == world.process());
  });
}

TEST(Mesh, experts_are_shared_by_a_divisor_of_the_world) {
  for (const std::int64_t expert : {0, -1, 3, 8}) {
    std::atomic<int> refused = 0;
    comm::run_local(4, [&](comm::Communicator& world) {
      const auto sentence =
          tests::refusal<base::UsageError>([&] { const Mesh mesh(world, expert); });
      EXPECT_TRUE(tests::contains(sentence, base::text("parallel.expert = ", expert))) << sentence;
      EXPECT_TRUE(tests::contains(sentence, "a divisor of the 4 processes")) << sentence;
      ++refused;
    });
    EXPECT_EQ(refused, 4);
  }
}

}  // namespace
}  // namespace dfmoa::distributed
