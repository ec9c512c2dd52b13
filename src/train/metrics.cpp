#include "src/train/metrics.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {

namespace {

/// A kill or a full disk may have left half a line at the end: the next one must not grow onto it.
const std::filesystem::path& without_half_line(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return path;  // a fresh run
  auto end = static_cast<std::streamoff>(file.tellg());
  for (char last = 0; end > 0; --end) {
    file.seekg(end - 1).get(last);
    if (last == '\n') break;
  }
  std::error_code error;
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(end), error);
  if (error) {
    throw base::MachineError(base::text("shortening ", path.string(), ": ", error.message()));
  }
  return path;
}

}  // namespace

Metrics::Metrics(const std::filesystem::path& run_folder, bool tensorboard)
    : path_(run_folder / "metrics.jsonl"), file_(without_half_line(path_), std::ios::app) {
  if (!file_) throw base::MachineError("opening " + path_.string() + " failed");
  if (tensorboard) events_ = std::make_unique<formats::EventWriter>(run_folder);
}

void Metrics::write(std::int64_t step, const Figures& figures) {
  const auto now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& [key, value] : figures) {
    // JSON knows no NaN: a figure that is not a number is told as null
    file_ << R"({"step": )" << step << R"(, "time": )" << base::number_text(now) << R"(, "key": )"
          << nlohmann::json(key).dump()  // a task may have any name
          << R"(, "value": )" << (std::isfinite(value) ? base::number_text(value) : "null")
          << "}\n";
    if (events_) events_->scalar(key, step, static_cast<float>(value), now);
  }
  file_.flush();
  if (!file_) throw base::MachineError("writing " + path_.string() + " failed");
}

namespace {

std::int64_t peak_before_restart = 0;

}  // namespace

std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::max(peak_before_restart, static_cast<std::int64_t>(usage.ru_maxrss) * 1024);
}

void restart_peak() {
  peak_before_restart = peak_memory_bytes();      // getrusage tells of VmHWM too
  std::ofstream("/proc/self/clear_refs") << "5";  // proc(5): resets VmHWM
}

std::int64_t peak_since_restart() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return peak_memory_bytes();
}

}  // namespace dfmoa::train
