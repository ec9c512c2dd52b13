// A model as people name it: a base model folder, a run folder, or one of its checkpoints.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoints/reader.h"
#include "src/base/log.h"
#include "src/data/sample.h"
#include "src/data/tokenizer.h"
#include "src/train/config.h"

namespace dfmoa::train {

struct OpenedModel {
  RunConfig config;  ///< the checkpoint's; defaults for a bare base model
  std::unique_ptr<model::Transformer> model;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::unique_ptr<data::SampleReader> reader;
  std::filesystem::path checkpoint;  ///< empty for a bare base model
  std::int64_t step = 0;
};

/// The checkpoint that `path` names: itself, or the newest valid one of a run folder.
/// Throws UsageError where there is none.
[[nodiscard]] checkpoints::Checkpoint open_checkpoint(const std::filesystem::path& path,
                                                      base::Logger& log);

/// Loads base, adapters and tokenizer; base and adapters go to `device`. `base_path` replaces the
/// checkpoint's model.path if not empty. Throws as load_base_model, Checkpoint::open and
/// Tokenizer::from_directory do.
[[nodiscard]] OpenedModel open_model(const std::filesystem::path& path,
                                     const std::string& base_path, base::Logger& log,
                                     at::Device device = at::kCPU);

/// fp32 or fp64 of [train].
[[nodiscard]] at::ScalarType compute_type(const TrainConfig& config);

}  // namespace dfmoa::train
