#include "src/train/evaluate.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/data/jsonl.h"
#include "tests/data/small_data.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

using formats::contains;
using formats::sentence_of;
using model::Transformer;

class Evaluate : public data::SmallData {
 protected:
  void SetUp() override {
    data::SmallData::SetUp();
    model::write_tiny_model(folder_);
  }

  std::shared_ptr<const model::BaseModel> base() {
    return model::load_tiny_model(folder_, at::kDouble);
  }

  Transformer mixture(const std::string& scope) {
    Transformer mixed(base());
    mixed.adapt(model::tiny_plan(scope), 3);
    model::stir(mixed);
    return mixed;
  }

  Evaluation run(const Transformer& model, const std::vector<std::string>& files,
                 const EvaluateOptions& options = {}) {
    return evaluate(model, tokenizer(), reader(config_), files, options);
  }

  /// Three tasks' worth of unequal lines.
  std::vector<std::string> mixed_files() {
    return {
        write("one.jsonl", R"({"prompt": "xyz the", "completion": "kk", "task": "a"})"
                           "\n"
                           R"({"prompt": "uvw", "completion": "zyxw", "task": "b", "span": [1, 2]})"
                           "\n"),
        write("two.jsonl",
              R"({"prompt": "mmmmmm", "completion": "n"})"
              "\n"
              R"({"prompt": "ok", "completion": "the end", "task": "a", "span": [0, 1]})"
              "\n")};
  }

  /// Losses of one sample, from all logits of a forward of its own.
  at::Tensor plain_losses(const Transformer& model, const data::Sample& sample) {
    const bool marked = sample.span_end > sample.span_begin;
    const auto span = marked ? std::pair(sample.span_begin, sample.span_end)
                             : std::pair(std::int64_t{0}, sample.prompt_tokens - 1);
    const auto x_TD = model.hidden(model.pack_sequences({sample.token}, {0}, {span}));
    const auto log_p_TV =
        at::log_softmax(model.logits(x_TD, at::arange(x_TD.size(0), at::kLong)), 1);
    std::vector<double> losses;
    for (std::size_t t = 1; t < sample.token.size(); ++t) {
      if (sample.trained[t] == 0) continue;
      losses.push_back(-log_p_TV[static_cast<std::int64_t>(t) - 1][sample.token[t]].item<double>());
    }
    return torch::tensor(losses, torch::kDouble);
  }

  /// x is followed by y, y by z, z by a blank, that by the end; no block changes anything.
  Transformer chain() {
    auto model = std::make_shared<model::BaseModel>(*base());
    model->embedding_VD = at::zeros_like(model->embedding_VD);
    model->head_VD = at::zeros_like(model->head_VD);
    const std::vector<std::int64_t> order{'x', 'y', 'z', ' ', data::kEndId};
    for (std::int64_t i = 0; i < 4; ++i) {
      model->embedding_VD[order[static_cast<std::size_t>(i)]][i] = 1;
      model->head_VD[order[static_cast<std::size_t>(i) + 1]][i] = 10;
    }
    model->final_norm_D = at::ones_like(model->final_norm_D);
    for (auto& layer : model->layers) {
      for (const std::size_t site : {3, 6}) {
        const auto& linear = *layer.linears[site];
        layer.linears[site] = adapters::dense_linear(
            at::zeros({linear.out_features(), linear.in_features()}, at::kDouble), {});
      }
    }
    return Transformer(model);
  }
};

TEST_F(Evaluate, cross_entropy_of_every_task_equals_whole_logits_one_sample_at_a_time) {
  const auto files = mixed_files();
  const auto read = reader(config_);
  for (const std::string scope : {"token", "span"}) {
    const auto model = mixture(scope);
    std::map<std::string, std::vector<at::Tensor>> losses;
    const data::JsonlFiles lines(files);
    for (std::int64_t i = 0; i < lines.count(); ++i) {
      const auto sample = read.read(lines.line(i));
      losses[sample.task.empty() ? "none" : sample.task].push_back(plain_losses(model, sample));
      losses["total"].push_back(losses[sample.task.empty() ? "none" : sample.task].back());
    }
    EvaluateOptions options;
    options.tokens_per_row = 16;  // several rows, several documents in some
    auto result = run(model, files, options);
    ASSERT_EQ(result.tasks.size(), 3U);
    result.tasks["total"] = result.total;
    for (const auto& [task, figures] : result.tasks) {
      const auto all = at::cat(losses.at(task));
      EXPECT_NEAR(figures.ce, all.mean().item<double>(), 1e-12) << scope << task;
      EXPECT_NEAR(figures.perplexity, std::exp(figures.ce), 1e-9);
      EXPECT_EQ(figures.tokens, all.size(0)) << task;
      EXPECT_EQ(figures.items, static_cast<std::int64_t>(losses.at(task).size())) << task;
      EXPECT_FALSE(figures.exact_match.has_value()) << "not asked for";
    }
  }
}

TEST_F(Evaluate, exact_match_counts_texts_that_equal_the_completion) {
  const auto file =
      write("exact.jsonl", R"({"prompt": "qx", "completion": "yz", "task": "good"})"
                           "\n"
                           R"({"prompt": "qx", "completion": " yz  ", "task": "good"})"
                           "\n"
                           R"({"prompt": "ppx", "completion": "yy", "task": "half"})"
                           "\n"
                           R"({"prompt": "py", "completion": "z", "task": "half"})"
                           "\n"
                           R"({"text": "xyz", "task": "text"})"
                           "\n");
  EvaluateOptions options;
  options.exact_match = true;
  options.max_new_tokens = 8;
  options.batch = 3;  // one batch that is full, one that is not
  auto result = run(chain(), {file}, options);
  EXPECT_EQ(result.tasks["good"].exact_match, 1.0);
  EXPECT_EQ(result.tasks["good"].stderr_, 0.0);
  EXPECT_EQ(result.tasks["half"].exact_match, 0.5);
  EXPECT_NEAR(result.tasks["half"].stderr_.value(), std::sqrt(0.25 / 2), 1e-12);
  EXPECT_FALSE(result.tasks["text"].exact_match.has_value());
  EXPECT_EQ(result.total.exact_match, 0.75);
  EXPECT_NEAR(result.total.stderr_.value(), std::sqrt(0.1875 / 4), 1e-12);
  options.max_new_tokens = 1;
  result = run(chain(), {file}, options);
  EXPECT_EQ(result.tasks["good"].exact_match, 0.0) << "cut off after y";
}

TEST_F(Evaluate, exact_match_refuses_prompts_it_cannot_go_on_from) {
  EvaluateOptions options;
  options.exact_match = true;
  options.max_new_tokens = 62;  // of 64 positions
  const auto refusal = [&](const std::string& prompt) {
    const auto file =
        write("bad.jsonl", R"({"prompt": ")" + prompt + R"(", "completion": "yz"})" + "\n");
    return sentence_of<base::ContentError>([&] { (void)run(chain(), {file}, options); });
  };
  EXPECT_TRUE(contains(refusal("xxx"), "bad.jsonl:1: "));
  EXPECT_TRUE(contains(refusal("xxx"), "after a prompt of 3, expected a prompt of 1 to 2"));
  EXPECT_TRUE(contains(refusal(""), "after a prompt of 0"));
}

TEST_F(Evaluate, equal_gates_tell_nothing_about_the_task) {
  Transformer mixed(base());
  mixed.adapt(model::tiny_plan("token"), 3);  // router weights are zero: every gate is 1/3
  const auto result = run(mixed, mixed_files());
  EXPECT_NEAR(result.mutual_information, 0, 1e-15);
  ASSERT_EQ(result.load_of_task.size(), 3U);
  for (const auto& [task, load] : result.load_of_task) {
    ASSERT_EQ(load.size(), 3U);
    for (const double gate : load) EXPECT_NEAR(gate, 1.0 / 3, 1e-12) << task;
  }
}

/// The gate reads the first norm of block 0: the token alone decides.
TEST_F(Evaluate, gates_that_split_by_task_tell_all_about_it) {
  Transformer mixed(base());
  auto plan = model::tiny_plan("token", 2);
  plan.adapters["mix"].layers = "0";
  mixed.adapt(plan, 3);
  const auto& embedding_VD = mixed.base().embedding_VD;
  const auto norm = [&](int token) {
    const auto x_D = embedding_VD[token];
    return x_D / x_D.square().mean().sqrt() * mixed.base().layers[0].attention_norm_D;
  };
  const auto apart_D = (norm('x') - norm('k')) * 1000;
  {
    const at::NoGradGuard no_grad;
    mixed.blocks()[0].parameters().leaf("router/main/weight").copy_(at::stack({apart_D, -apart_D}));
  }
  const auto file = write("split.jsonl", R"({"prompt": "xx", "completion": "xxxx", "task": "x"})"
                                         "\n"
                                         R"({"prompt": "kk", "completion": "k", "task": "k"})"
                                         "\n");
  const auto result = run(mixed, {file});
  EXPECT_NEAR(result.load_of_task.at("x")[0], 1, 1e-9);
  EXPECT_NEAR(result.load_of_task.at("k")[1], 1, 1e-9);
  EXPECT_NEAR(result.mutual_information, std::log(2.0), 1e-9) << "tasks count alike";
}

TEST_F(Evaluate, prompts_hash_depends_on_the_prompts_alone) {
  const auto hash = [&](const Transformer& model, const std::string& lines) {
    return run(model, {write("h.jsonl", lines)}).prompts_hash;
  };
  const std::string line = R"({"prompt": "ab", "completion": "c"})";
  const auto first = hash(mixture("token"), line);
  EXPECT_EQ(first.size(), 32U);
  EXPECT_EQ(hash(chain(), R"({"prompt": "ab", "completion": "d"})"), first);
  EXPECT_NE(hash(chain(), R"({"prompt": "ba", "completion": "c"})"), first);
  EXPECT_NE(hash(chain(), line + "\n" + line), first);
}

TEST_F(Evaluate, counts_broken_lines_and_refuses_files_without_a_sample) {
  config_.skip_bad_lines = true;
  const std::string good = R"({"prompt": "x", "completion": "y"})";
  EXPECT_EQ(run(chain(), {write("some.jsonl", "{\n" + good + "\n[]\n")}).skipped, 2);
  const auto file = write("none.jsonl", "{\n");
  const auto sentence = sentence_of<base::ContentError>([&] { (void)run(chain(), {file}); });
  EXPECT_TRUE(contains(sentence, "all 1 lines are broken")) << sentence;
  config_.skip_bad_lines = false;
  EXPECT_THROW((void)run(chain(), {file}), base::ContentError);
}

TEST_F(Evaluate, refuses_a_document_in_which_a_span_gate_has_nothing_to_read) {
  const auto file = write("text.jsonl", R"({"prompt": "ab", "completion": "c"})"
                                        "\n"
                                        R"({"text": "xyz"})");
  const auto sentence =
      sentence_of<base::ContentError>([&] { (void)run(mixture("span"), {file}); });
  EXPECT_TRUE(contains(sentence, "text.jsonl:2: a gate of scope span")) << sentence;
  EXPECT_EQ(run(mixture("token"), {file}).total.items, 2);
}

TEST_F(Evaluate, refuses_a_loss_that_is_no_number) {
  auto broken = std::make_shared<model::BaseModel>(*base());
  broken->head_VD = at::full_like(broken->head_VD, std::numeric_limits<double>::quiet_NaN());
  const auto files = mixed_files();
  const auto sentence =
      sentence_of<base::MachineError>([&] { (void)run(Transformer(broken), files); });
  EXPECT_TRUE(contains(sentence, "the loss is")) << sentence;
}

TEST_F(Evaluate, json_holds_what_was_asked_for_and_nothing_else) {
  const auto files = mixed_files();
  const auto plain = to_json(run(chain(), files), "models/chain");
  EXPECT_EQ(plain["model"], "models/chain");
  EXPECT_EQ(plain["tasks"]["a"]["items"], 2);
  EXPECT_TRUE(plain["total"].contains("ce") && plain["total"].contains("perplexity"));
  EXPECT_FALSE(plain["total"].contains("exact_match") || plain["total"].contains("stderr"));
  EXPECT_FALSE(plain.contains("load") || plain.contains("skipped"));
  EvaluateOptions options;
  options.exact_match = true;
  options.max_new_tokens = 2;
  const auto full = to_json(run(mixture("span"), files, options), "runs/mix");
  EXPECT_TRUE(full["tasks"]["b"].contains("exact_match"));
  EXPECT_TRUE(full["total"].contains("stderr"));
  EXPECT_EQ(full["load"]["none"].size(), 3U);
  EXPECT_GT(full["mutual_information"].get<double>(), 0);
  EXPECT_EQ(full["prompts_hash"], plain["prompts_hash"]) << "the same prompts for both models";
}

}  // namespace
}  // namespace dfmoa::train
