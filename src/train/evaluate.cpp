#include "src/train/evaluate.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"
#include "src/data/loader.h"
#include "src/model/generate.h"

namespace dfmoa::train {
namespace {

std::string task_of(const data::Sample& sample) {
  return sample.task.empty() ? kNoTask : sample.task;
}

/// Generates from prompts, a batch at a time, and counts the texts that are as expected.
class ExactMatch {
 public:
  struct Count {
    double right = 0;
    double of = 0;
  };

  ExactMatch(const model::Transformer& model, const data::Tokenizer& tokenizer,
             const data::SampleReader& reader, const EvaluateOptions& options)
      : tokenizer_(tokenizer),
        batch_(options.batch),
        new_tokens_(options.max_new_tokens),
        positions_(model.base().architecture.max_positions),
        generator_(model, sampling(options), reader.stop_ids(), tokenizer.vocabulary()) {}

  void add(const data::Sample& sample) {
    if (sample.completion.empty()) return;  // plain text and long chats expect no one answer
    if (sample.prompt_tokens == 0 || sample.prompt_tokens + new_tokens_ > positions_) {
      throw base::ContentError(base::text(
          sample.where, ": exact match generates ", new_tokens_, " tokens after a prompt of ",
          sample.prompt_tokens, ", expected a prompt of 1 to ", positions_ - new_tokens_));
    }
    prompts_.emplace_back(sample.token.begin(), sample.token.begin() + sample.prompt_tokens);
    spans_.emplace_back(sample.span_begin, sample.span_end);
    expected_.emplace_back(task_of(sample), base::trim(sample.completion));
    if (static_cast<std::int64_t>(prompts_.size()) >= batch_) flush();
  }

  void flush() {
    const auto results = generator_.run(prompts_, spans_);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& [task, completion] = expected_[i];
      const auto text = tokenizer_.decode(results[i].tokens, /*skip_special=*/true);
      auto& count = counts_[task];
      count.right += base::trim(text) == completion ? 1 : 0;
      count.of += 1;
    }
    prompts_.clear();
    spans_.clear();
    expected_.clear();
  }

  [[nodiscard]] const std::map<std::string, Count>& counts() const { return counts_; }

 private:
  static model::SamplingConfig sampling(const EvaluateOptions& options) {
    model::SamplingConfig config;
    config.greedy = true;
    config.tokens = options.max_new_tokens;
    return config;
  }

  const data::Tokenizer& tokenizer_;
  std::int64_t batch_;
  std::int64_t new_tokens_;
  std::int64_t positions_;
  model::Generator generator_;
  model::Generator::Prompts prompts_;
  model::Generator::Spans spans_;
  std::vector<std::pair<std::string, std::string>> expected_;  // task, text
  std::map<std::string, Count> counts_;
};

/// The task of every token that bears loss, in order.
std::vector<std::string> tasks_of_loss(const data::PackedRow& row,
                                       const std::vector<data::Sample>& samples) {
  std::vector<std::string> tasks;
  for (std::size_t d = 0; d < samples.size(); ++d) {
    const auto begin = row.target_T.begin() + row.document_begin[d];
    const auto end = row.target_T.begin() + row.document_begin[d + 1];
    const auto count = std::count_if(begin, end, [](auto target) { return target >= 0; });
    tasks.insert(tasks.end(), static_cast<std::size_t>(count), task_of(samples[d]));
  }
  return tasks;
}

/// `figures.ce` holds the sum of losses until here.
void finish(TaskFigures& figures, const ExactMatch::Count& count) {
  figures.ce /= static_cast<double>(figures.tokens);
  figures.perplexity = std::exp(figures.ce);
  if (count.of == 0) return;
  const double share = count.right / count.of;
  figures.exact_match = share;
  figures.stderr_ = std::sqrt(share * (1 - share) / count.of);
}

void finish(Evaluation& result, const std::map<std::string, ExactMatch::Count>& counts) {
  ExactMatch::Count all;
  for (auto& [task, figures] : result.tasks) {
    result.total.ce += figures.ce;
    result.total.tokens += figures.tokens;
    result.total.items += figures.items;
    const auto found = counts.find(task);
    const auto count = found == counts.end() ? ExactMatch::Count{} : found->second;
    all.right += count.right;
    all.of += count.of;
    finish(figures, count);
  }
  finish(result.total, all);
}

nlohmann::json figures_json(const TaskFigures& figures) {
  nlohmann::json json = {{"ce", figures.ce},
                         {"perplexity", figures.perplexity},
                         {"tokens", figures.tokens},
                         {"items", figures.items}};
  if (figures.exact_match) json["exact_match"] = *figures.exact_match;
  if (figures.stderr_) json["stderr"] = *figures.stderr_;
  return json;
}

}  // namespace

Evaluation evaluate(const model::Transformer& model, const data::Tokenizer& tokenizer,
                    const data::SampleReader& reader, const std::vector<std::string>& files,
                    const EvaluateOptions& options) {
  Evaluation result;
  GateUse use(model);
  ExactMatch exact(model, tokenizer, reader, options);
  base::Hash128 prompts;
  std::int64_t read = 0;
  const auto visit = [&](const data::PackedRow& row, const std::vector<data::Sample>& samples) {
    const auto rows = model.pack(row);
    const auto tasks = tasks_of_loss(row, samples);
    use.set_row(rows.loss_row_X, tasks);
    const auto x_TD = model.hidden(rows, nullptr, &use);
    const auto head = model.head(x_TD, rows, /*inverse_n_loss=*/1.0, /*want_gradient=*/false);
    const auto nll_X = head.nll_X.to(at::kCPU).contiguous();
    for (std::size_t x = 0; x < tasks.size(); ++x) {
      auto& figures = result.tasks[tasks[x]];
      figures.ce += nll_X.const_data_ptr<double>()[x];
      figures.tokens += 1;
    }
    for (const auto& sample : samples) {
      result.tasks[task_of(sample)].items += 1;
      prompts.add_text({reinterpret_cast<const char*>(sample.token.data()),
                        static_cast<std::size_t>(sample.prompt_tokens) * sizeof(std::int32_t)});
      if (options.exact_match) exact.add(sample);
    }
    read += static_cast<std::int64_t>(samples.size());
    if (options.on_row) options.on_row(read);
  };
  result.skipped = data::for_each_row(files, reader, options.tokens_per_row, visit);
  if (result.tasks.empty()) {
    throw base::ContentError(base::text("evaluating ", base::join(files, ", "), ": all ",
                                        result.skipped, " lines are broken, expected a sample"));
  }
  exact.flush();
  result.routers = use.report();
  result.load_of_task = mean_load(result.routers);
  result.mutual_information = mean_mutual_information(result.routers);
  finish(result, exact.counts());
  if (!std::isfinite(result.total.ce)) {
    throw base::MachineError(base::text("evaluating ", base::join(files, ", "), ": the loss is ",
                                        result.total.ce, ", expected a finite number"));
  }
  result.prompts_hash = prompts.hex();
  return result;
}

nlohmann::json to_json(const Evaluation& evaluation, const std::string& model) {
  nlohmann::json json = {{"model", model},
                         {"tasks", nlohmann::json::object()},
                         {"total", figures_json(evaluation.total)},
                         {"prompts_hash", evaluation.prompts_hash}};
  for (const auto& [task, figures] : evaluation.tasks) json["tasks"][task] = figures_json(figures);
  if (evaluation.skipped > 0) json["skipped"] = evaluation.skipped;
  if (!evaluation.load_of_task.empty()) {
    json["load"] = evaluation.load_of_task;
    json["mutual_information"] = evaluation.mutual_information;
  }
  return json;
}

nlohmann::json to_lm_eval_json(const Evaluation& evaluation, const std::string& model) {
  nlohmann::json json = {{"results", nlohmann::json::object()},
                         {"n-samples", nlohmann::json::object()},
                         {"config", {{"model", "dfmoa"}, {"model_args", model}}}};
  for (const auto& [task, figures] : evaluation.tasks) {
    auto& result = json["results"][task];
    result = {{"alias", task}, {"ce,none", figures.ce}, {"perplexity,none", figures.perplexity}};
    if (figures.exact_match) result["exact_match,none"] = *figures.exact_match;
    if (figures.stderr_) result["exact_match_stderr,none"] = *figures.stderr_;
    json["n-samples"][task] = {{"original", figures.items}, {"effective", figures.items}};
  }
  return json;
}

}  // namespace dfmoa::train
