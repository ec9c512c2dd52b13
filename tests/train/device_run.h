// The demo's configuration on a tiny model, trained on a device and on the CPU.
#pragma once

#include "src/train/ini.h"
#include "tests/support/small_run.h"

namespace dfmoa::train {

class DeviceRun : public SmallRun {
 protected:
  static constexpr std::int64_t kSteps = 3;
  static constexpr std::int64_t kCutBefore = 2;  // the step that begins with the rank cut

  /// configs/dfmoa_smollm2.ini with what a tiny model and three steps need: paths, short rows, half
  /// of this model's 2 x 7 x 64 directions as budget, noise from the start and a cut before step 3.
  RunConfig config() const {
    RunConfig demo;
    read_ini(std::filesystem::path(DFMOA_CONFIGS) / "dfmoa_smollm2.ini", demo);
    return with({{"data.eval", ""},
                 {"rank.main.budget", "448"},
                 {"rank.main.start", "0"},
                 {"rank.main.cut", "0.67"},
                 {"train.steps", "3"},
                 {"train.tokens", "16"},
                 {"train.precision", "fp64"}},
                demo);
  }

  /// Runs `there` and `here` gave the same figures within `tolerance` of each, and the cut.
  void expect_same_figures(const std::string& there, const std::string& here,
                           double tolerance) const {
    for (const std::string key :
         {"train/ce", "train/loss", "train/grad_norm", "rank/model/active", "rank/model/expected",
          "rank/model/total", "router/0/main/entropy", "entropy_weight/1/main"}) {
      const auto expected = figures(here, key);
      const auto values = figures(there, key);
      ASSERT_EQ(expected.size(), static_cast<std::size_t>(kSteps)) << key;
      ASSERT_EQ(values.size(), expected.size()) << key;
      for (const auto& [step, value] : values) {
        EXPECT_NEAR(value, expected.at(step), tolerance * std::abs(expected.at(step)))
            << key << " of step " << step;
      }
    }
    const std::map<std::int64_t, double> cut{{1, 896}, {2, 896}, {3, 448}};
    EXPECT_EQ(figures(there, "rank/model/total"), cut);
  }

  /// Largest difference of values and moments, relative to the largest number of its tensor.
  static double distance(const model::Transformer& one, const model::Transformer& two) {
    double worst = 0;
    for (std::size_t layer = 0; layer < one.blocks().size(); ++layer) {
      const auto a = one.blocks()[layer].parameters().on_host();
      const auto b = two.blocks()[layer].parameters().on_host();
      if (a.specs().size() != b.specs().size()) return 1e9;
      for (std::size_t i = 0; i < a.specs().size(); ++i) {
        for (const auto& [x, y] :
             {std::pair(a.leaves()[i].detach(), b.leaves()[i].detach()),
              std::pair(a.moment1(i), b.moment1(i)), std::pair(a.moment2(i), b.moment2(i))}) {
          if (x.sizes() != y.sizes()) return 1e9;
          if (x.numel() == 0) continue;  // a site that the cut has emptied
          const double scale = std::max(y.abs().max().item<double>(), 1e-30);
          worst = std::max(worst, (x - y).abs().max().item<double>() / scale);
        }
      }
    }
    return worst;
  }
};

}  // namespace dfmoa::train
