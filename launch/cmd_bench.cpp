#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "kernels/cpu_level.h"
#include "launch/bench/bench.h"
#include "launch/commands.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

using bench::Bar;
using bench::Measurement;

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) return base::trim(line.substr(line.find(':') + 1));
  }
  return "unknown";
}

nlohmann::json machine() {
  double load = 0;
  (void)getloadavg(&load, 1);
  return {{"processor", processor()},         {"cpu_level", kernels::name_of(kernels::cpu_level())},
          {"threads", at::get_num_threads()}, {"load", load},
          {"torch", TORCH_VERSION},           {"build", DFMOA_BUILD_TYPE}};
}

nlohmann::json to_json(const Bar& bar) {
  nlohmann::json json{{"id", bar.id},          {"what", bar.what}, {"value", bar.value},
                      {"unit", bar.unit},      {"bar", nullptr},   {"stretch", nullptr},
                      {"samples", bar.samples}};
  if (bar.bar) json["bar"] = *bar.bar;
  if (bar.stretch) json["stretch"] = *bar.stretch;
  if (bar.peak_bytes > 0) {
    json["peak_bytes"] = bar.peak_bytes;
    json["extra_bytes"] = bar.extra_bytes;
  }
  return json;
}

void print_table(const bench::Limits& limits, const std::vector<Bar>& bars) {
  std::cout << "memory " << limits.copy_bytes_per_s / 1e9 << " GB/s read and written, product "
            << limits.mm_flops_per_s / 1e9 << " GFLOP/s\n";
  for (const auto& bar : bars) {
    std::cout << std::left << std::setw(37) << bar.id << ' ' << std::setw(12)
              << base::text(std::setprecision(4), bar.value) << std::setw(8) << bar.unit << ' ';
    if (bar.extra_bytes > 0) std::cout << (bar.extra_bytes >> 20) << " MiB more; ";
    if (bar.bar) std::cout << "bar " << *bar.bar << "; ";
    std::cout << bar.what << "\n";
  }
}

/// Those that were asked for. Throws UsageError for an unknown id or a missing option.
std::vector<Measurement> chosen(const Options& options, const bench::BenchOptions& bench) {
  std::vector<Measurement> all;
  std::vector<std::string> ids;
  const auto one = options.text("one");
  for (auto& measurement : bench::all_measurements()) {
    ids.push_back(measurement.id);
    if (!one.empty() && measurement.id != one && !measurement.id.starts_with(one + ".")) continue;
    const bool missing = (!measurement.needs.empty() && bench.model.empty()) ||
                         (measurement.needs == "data" && bench.data.empty());
    if (missing && !one.empty()) {
      throw base::UsageError(base::text("bench --one ", one, " needs --model DIR",
                                        measurement.needs == "data" ? " and --data FILE" : ""));
    }
    if (missing) {
      std::cerr << "bench: " << measurement.id << " is left out, it needs --" << measurement.needs
                << "\n";
    } else {
      all.push_back(std::move(measurement));
    }
  }
  if (all.empty()) {
    throw base::UsageError(base::text("bench has no measurement ", one, "; the nearest is ",
                                      base::nearest(one, ids), " (bench --list names all)"));
  }
  return all;
}

void list_all() {
  for (const auto& measurement : bench::all_measurements()) {
    std::cout << std::left << std::setw(14) << measurement.id << measurement.what
              << (measurement.needs.empty() ? "" : " (needs --model")
              << (measurement.needs == "data" ? " and --data)"
                  : measurement.needs.empty() ? ""
                                              : ")")
              << "\n";
  }
}

void list_bench_options(Options& options) {
  namespace po = boost::program_options;
  options.add()("one", po::value<std::string>(),
                "only this measurement, or all whose id begins so (G8)")(
      "list", "name the measurements, run none")("model", po::value<std::string>(),
                                                 "base model folder, for whole steps")(
      "data", po::value<std::string>(), "JSONL file of short documents, for G6b")(
      "tokens", po::value<std::int64_t>()->default_value(512), "tokens of a whole step")(
      "threads", po::value<int>()->default_value(0), "threads (0: all cores)")(
      "samples", po::value<int>()->default_value(9), "timed repetitions")(
      "warm-up", po::value<int>()->default_value(3), "repetitions before them")(
      "json", "print the result as JSON");
}

}  // namespace

base::ExitCode run_bench(const Arguments& arguments) {
  Options options("bench", "Measures this program and the machine's limits.");
  list_bench_options(options);
  if (!options.parse(arguments)) return base::ExitCode::done;
  if (options.has("list")) {
    list_all();
    return base::ExitCode::done;
  }
  bench::BenchOptions bench{{options.get<int>("warm-up"), options.get<int>("samples")},
                            options.text("model"),
                            options.text("data"),
                            options.get<std::int64_t>("tokens")};
  if (bench.repeat.samples < 1 || bench.repeat.warm_up < 0 || bench.tokens < 2) {
    throw base::UsageError(base::text("bench: --samples ", bench.repeat.samples, ", --warm-up ",
                                      bench.repeat.warm_up, ", --tokens ", bench.tokens,
                                      ": expected at least 1, 0 and 2"));
  }
  if (options.get<int>("threads") > 0) at::set_num_threads(options.get<int>("threads"));
  const auto measurements = chosen(options, bench);
  const auto limits = bench::measure_limits(bench);
  std::vector<Bar> bars;
  for (const auto& measurement : measurements) {
    for (auto& bar : measurement.run(bench, limits)) bars.push_back(std::move(bar));
  }
  if (!options.has("json")) {
    print_table(limits, bars);
    return base::ExitCode::done;
  }
  nlohmann::json json{
      {"machine", machine()},
      {"limits",
       {{"copy_bytes_per_s", limits.copy_bytes_per_s}, {"mm_flops_per_s", limits.mm_flops_per_s}}},
      {"bars", nlohmann::json::array()}};
  for (const auto& bar : bars) json["bars"].push_back(to_json(bar));
  std::cout << json.dump() << "\n";
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
