#include "src/train/metrics.h"

#include <sys/resource.h>

#include <chrono>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {

Metrics::Metrics(const std::filesystem::path& run_folder, bool tensorboard)
    : path_(run_folder / "metrics.jsonl"), file_(path_, std::ios::app) {
  if (!file_) throw base::MachineError("opening " + path_.string() + " failed");
  if (tensorboard) events_ = std::make_unique<formats::EventWriter>(run_folder);
}

void Metrics::write(std::int64_t step, const Figures& figures) {
  const auto now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& [key, value] : figures) {
    // JSON knows no NaN: a figure that is not a number is told as null
    file_ << R"({"step": )" << step << R"(, "time": )" << base::number_text(now) << R"(, "key": ")"
          << key << R"(", "value": )" << (std::isfinite(value) ? base::number_text(value) : "null")
          << "}\n";
    if (events_) events_->scalar(key, step, static_cast<float>(value), now);
  }
  file_.flush();
  if (!file_) throw base::MachineError("writing " + path_.string() + " failed");
}

std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace dfmoa::train
