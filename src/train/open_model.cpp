#include "src/train/open_model.h"

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/placement.h"
#include "src/train/ini.h"
#include "src/train/state.h"

namespace dfmoa::train {

at::ScalarType compute_type(const TrainConfig& config) {
  return config.precision == "fp64" ? at::kDouble : at::kFloat;
}

checkpoints::Checkpoint open_checkpoint(const std::filesystem::path& path, base::Logger& log) {
  if (std::filesystem::exists(path / "checkpoints")) {
    auto newest = checkpoints::find_newest(path / "checkpoints", log);
    if (newest) return std::move(*newest);
    throw base::UsageError(path.string() + " holds no valid checkpoint yet");
  }
  return checkpoints::Checkpoint::open(path);
}

OpenedModel open_model(const std::filesystem::path& path, const std::string& base_path,
                       base::Logger& log, at::Device device) {
  OpenedModel opened;
  if (std::filesystem::exists(path / "config.json")) {
    opened.config.model.path = path.string();
    const auto base = model::load_base_model(opened.config.model, at::kFloat);
    opened.model = std::make_unique<model::Transformer>(model::on_device(*base, device));
  } else {
    const auto checkpoint = open_checkpoint(path, log);
    base::StateTree saved;
    for (const auto& [name, value] : checkpoint.values()) saved.set(name, value);
    read_ini_text(saved.text("run/config"), checkpoint.folder().string(), opened.config);
    if (!base_path.empty()) opened.config.model.path = base_path;
    const auto base =
        model::load_base_model(opened.config.model, compute_type(opened.config.train));
    if (base->hash != saved.text("base/hash")) {
      throw base::ContentError(base::text("the base model ", opened.config.model.path, " has hash ",
                                          base->hash, ", the checkpoint was trained on ",
                                          saved.text("base/hash")));
    }
    opened.model = std::make_unique<model::Transformer>(model::on_device(*base, device));
    opened.model->adapt(opened.config.plan, static_cast<std::uint64_t>(opened.config.train.seed));
    match_ranks(*opened.model, checkpoint);
    auto entropy = make_entropy(*opened.model);
    base::StateTree tree;
    const auto host = list_model(*opened.model, entropy, /*moments=*/false, tree);
    for (const auto& [name, entry] : tree.entries()) {
      const auto found = checkpoint.datasets().find(name);
      if (found == checkpoint.datasets().end() || found->second.shape != entry.shape ||
          found->second.dtype != entry.dtype) {
        throw base::ContentError(base::text("checkpoint ", checkpoint.folder().string(), ": ", name,
                                            " is missing or not of shape ",
                                            base::shape_text(entry.shape)));
      }
      if (entry.bytes() > 0) checkpoint.read(name, entry.data);
    }
    take_parameters(*opened.model, host);
    opened.checkpoint = checkpoint.folder();
    opened.step = checkpoint.step();
  }
  opened.tokenizer =
      std::make_unique<data::Tokenizer>(data::Tokenizer::from_directory(opened.config.model.path));
  opened.reader = std::make_unique<data::SampleReader>(opened.config.data, *opened.tokenizer,
                                                       opened.config.model.path);
  return opened;
}

}  // namespace dfmoa::train
