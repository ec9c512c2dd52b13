#include "launch/plan_text.h"

#include <array>
#include <cstdio>

#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

struct Unit {
  const char* name;
  double size;
};

/// In the largest unit that the value reaches, to two or three digits.
template <std::size_t count>
std::string in_units(double value, const std::array<Unit, count>& units) {
  auto unit = units.back();
  for (const auto& each : units) {
    if (value < 0.9995 * each.size) continue;
    unit = each;
    break;
  }
  const double shown = value / unit.size;
  std::array<char, 32> buffer{};
  const bool is_small = shown < 9.95 && unit.size != 1;
  std::snprintf(buffer.data(), buffer.size(), is_small ? "%.1f" : "%.0f", shown);
  return base::text(buffer.data(), " ", unit.name);
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size() + 1), ' ');
  return text;
}

}  // namespace

std::string bytes_text(double bytes) {
  return in_units(
      bytes, std::array<Unit, 5>{{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}});
}

std::string gib_text(double bytes) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.1f GiB", bytes / 1024 / 1024 / 1024);
  return buffer.data();
}

std::string seconds_text(double seconds) {
  return in_units(seconds, std::array<Unit, 3>{{{"s", 1 + 1e-12}, {"ms", 1e-3}, {"us", 1e-6}}});
}

std::string spread_text(const distributed::Spread& spread) {
  const auto mesh = spread.expert > 1
                        ? base::text("EP ", spread.expert, " x ", spread.copies(), ", ")
                        : std::string();
  return base::text(mesh, "transport ", distributed::name_of(spread.transport));
}

std::string idle_text(int processes, std::int64_t micro_batches) {
  if (micro_batches >= processes) return {};
  return base::text(processes - micro_batches, " of ", processes,
                    " processes have no micro-batch of their own: train.micro_batches = ",
                    micro_batches, ", over all processes");
}

std::string memory_table(const std::vector<distributed::MemoryPart>& parts) {
  std::string text;
  for (const auto& [part, bytes] : parts) {
    text += "  " + padded(part, 14) + bytes_text(static_cast<double>(bytes)) + "\n";
  }
  const auto total = static_cast<double>(distributed::total_of(parts));
  return text + "  " + padded("all", 14) + bytes_text(total) + ", " + gib_text(total) + "\n";
}

std::string memory_text(const std::vector<distributed::MemoryPart>& parts) {
  std::vector<std::string> words;
  for (const auto& [part, bytes] : parts) {
    if (bytes > 0) words.push_back(part + " " + bytes_text(static_cast<double>(bytes)));
  }
  return base::join(words, ", ");
}

std::string plan_against_actual(const train::StepCost& plan, const train::StepsCost& actual,
                                std::int64_t peak_bytes) {
  const auto steps = static_cast<double>(std::max<std::int64_t>(actual.steps, 1));
  const auto row = [](const std::string& what, const std::string& planned,
                      const std::string& measured) {
    return "  " + padded(what, 26) + padded(planned, 22) + measured + "\n";
  };
  const auto exact = [](double bytes) {
    return base::text(bytes_text(bytes), " (", static_cast<std::int64_t>(bytes), ")");
  };
  return base::text("plan against actual, process 0, mean of ", actual.steps, " steps",
                    plan.is_estimate ? "; what travels of tokens was an estimate" : "", ":\n") +
         row("", "plan", "actual") +
         row("bytes to communicators", exact(static_cast<double>(plan.bytes())),
             exact(static_cast<double>(actual.bytes) / steps)) +
         row("of them sent", exact(static_cast<double>(plan.sent_bytes())),
             exact(static_cast<double>(actual.sent_bytes) / steps)) +
         (peak_bytes == 0
              ? std::string()
              : row("memory of the fullest",
                    bytes_text(static_cast<double>(distributed::expected_of(plan.memory))),
                    bytes_text(static_cast<double>(peak_bytes)))) +
         row("in collectives", "-", seconds_text(actual.seconds / steps));
}

}  // namespace dfmoa::launch
