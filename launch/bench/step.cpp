// G6, G13, G15: the whole step on a base model: forward, backward, clipping, update.
#include "launch/bench/bench.h"
#include "launch/bench/trained.h"
#include "src/base/text.h"
#include "src/data/loader.h"

namespace dfmoa::launch::bench {
namespace {

/// G6a, G13 and G15 of one memory form.
std::vector<Bar> whole_step(bool keep, const BenchOptions& options, const Limits& limits) {
  Trained trained(base_of(options), experts_behind("softmax"));
  const std::vector<data::PackedRow> rows{
      full_row(options.tokens, trained.architecture().vocabulary)};
  const std::string form = keep ? "keep" : "recompute";
  const auto measured = measure(options.repeat, [&] { trained.step(rows, keep); });
  auto step = timed("G6a." + form,
                    base::text("whole step, E8 R8 on all sites, NF4 base, fp32, T ", options.tokens,
                               ", memory = ", form),
                    measured);
  const auto rate = trained.flops(options.tokens, rows[0].loss_tokens()) / measured.median();
  Bar share{"G13." + form,
            base::text("floating-point operations per second of that step, share of the product's"),
            rate / limits.mm_flops_per_s, "ratio", measured.seconds};
  if (keep) {  // recompute does a third more work than is counted
    share.bar = 0.75;
    share.stretch = 0.85;
  }
  return {step, share};
}

std::vector<Bar> frozen(const BenchOptions& options, const Limits& /*limits*/) {
  Trained trained(base_of(options), {});
  const auto row = full_row(options.tokens, trained.architecture().vocabulary);
  return {timed("frozen", base::text("frozen NF4 base forward and backward, T ", options.tokens),
                measure(options.repeat, [&] { trained.frozen_step(row); }))};
}

/// G6b: documents as they come, prompts masked, 16 in a step.
std::vector<Bar> documents(const BenchOptions& options, const Limits& /*limits*/) {
  constexpr std::int64_t kDocuments = 16;
  Trained trained(base_of(options), experts_behind("softmax"));
  data::DataConfig config;
  config.train = {options.data};
  config.order = "file";
  const auto tokenizer = data::Tokenizer::from_directory(options.model);
  const data::SampleReader reader(config, tokenizer, options.model);
  data::Loader loader(config, {1, 0, kDocuments}, reader, 1);
  return {timed("G6b",
                base::text("whole step on ", kDocuments, " short documents of ", options.data),
                measure(options.repeat, [&] { trained.step(loader.next_step(), true); }))};
}

}  // namespace

std::vector<Measurement> step_measurements() {
  return {
      {"G6a.keep", "whole step, G6a and G13",
       [](const auto& options, const auto& limits) { return whole_step(true, options, limits); },
       "model"},
      {"G6a.recompute", "the same in the other memory form",
       [](const auto& options, const auto& limits) { return whole_step(false, options, limits); },
       "model"},
      {"frozen", "the base alone, which G15 subtracts", frozen, "model"},
      {"G6b", "whole step on instruction data", documents, "data"}};
}

std::vector<Measurement> all_measurements() {
  auto all = kernel_measurements();
  for (auto& more : {linear_measurements(), step_measurements(), system_measurements()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

}  // namespace dfmoa::launch::bench
