#include "src/train/full_evaluation.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/model/gate_means.h"
#include "tests/data/small_data.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

using formats::contains;
using formats::sentence_of;
using model::Transformer;

class FullEvaluationTest : public data::SmallData {
 protected:
  void SetUp() override {
    data::SmallData::SetUp();
    model::write_tiny_model(folder_);
    request_.files = {write("d.jsonl", R"({"prompt": "xyz the", "completion": "kk", "task": "a"})"
                                       "\n"
                                       R"({"prompt": "uvw", "completion": "zyxw", "task": "b"})")};
    request_.choices = data::read_choices(
        {"quiz", write("c.jsonl", R"({"prompt": "xyz", "choices": ["ab", "k"], "answer": 1})"
                                  "\n"
                                  R"({"prompt": "uv", "choices": ["the", "b"], "answer": 0})")},
        0);
    request_.forgetting = write("f.txt", "xyzuvwmqkxyz");
  }

  Transformer mixture(const std::string& scope = "token") {
    Transformer mixed(model::load_tiny_model(folder_, at::kDouble));
    mixed.adapt(model::tiny_plan(scope), 3);
    model::stir(mixed);
    return mixed;
  }

  FullEvaluation run(Transformer& model, const EvaluationRequest& request) {
    return evaluate_all(model, tokenizer(), reader(config_), request);
  }

  EvaluationRequest under(const std::string& gates) const {
    auto request = request_;
    request.gates = gates::Override::parse(gates);
    return request;
  }

  EvaluationRequest request_;
};

TEST_F(FullEvaluationTest, each_part_is_what_it_is_alone) {
  auto model = mixture();
  const auto all = run(model, request_);
  const auto documents = evaluate(model, tokenizer(), reader(config_), request_.files, {});
  EXPECT_EQ(to_json(*all.documents, "m"), to_json(documents, "m"));
  const auto scored = ChoiceRows(request_.choices, reader(config_), 512, true).score(model);
  ASSERT_EQ(all.scored.size(), 2U);
  for (const std::size_t i : {0, 1}) {
    EXPECT_EQ(all.scored[i].log_likelihood, scored[i].log_likelihood);
  }
  EXPECT_EQ(all.choices.at("quiz").items, 2);
  EXPECT_EQ(all.forgetting->tokens, 11);
  EXPECT_FALSE(run(model, {}).documents.has_value());
}

TEST_F(FullEvaluationTest, a_template_is_used_where_there_is_one_unless_plain) {
  auto model = mixture();
  const auto plain = run(model, request_).scored[0].log_likelihood;
  config_.chat_template = "plain";  // renders a question as it stands
  EXPECT_EQ(run(model, request_).scored[0].log_likelihood, plain);
  config_.chat_template = "alpaca";
  EXPECT_NE(run(model, request_).scored[0].log_likelihood, plain);
  auto request = request_;
  request.plain = true;
  EXPECT_EQ(run(model, request).scored[0].log_likelihood, plain);
}

TEST_F(FullEvaluationTest, other_gates_act_on_every_part_and_its_load) {
  for (const std::string scope : {"token", "span"}) {
    auto model = mixture(scope);
    const auto soft = run(model, under("soft"));
    const auto alone = run(model, under("expert:1"));
    for (const auto& [task, load] : alone.documents->load_of_task) {
      EXPECT_NEAR(load[1], 1, 1e-12) << task;
      EXPECT_NEAR(load[0], 0, 1e-12) << task;
    }
    EXPECT_NE(alone.documents->total.ce, soft.documents->total.ce);
    EXPECT_NE(alone.scored[0].log_likelihood, soft.scored[0].log_likelihood);
    EXPECT_NE(alone.forgetting->perplexity, soft.forgetting->perplexity);
    EXPECT_EQ(alone.forgetting->base_perplexity, soft.forgetting->base_perplexity);
    const auto all = run(model, under("topk:3"));
    EXPECT_NEAR(all.documents->total.ce, soft.documents->total.ce, 1e-12);
    EXPECT_EQ(to_json(run(model, under("soft")), "m"), to_json(soft, "m")) << "nothing is left";
  }
}

/// The means of a part do not depend on what else is asked.
TEST_F(FullEvaluationTest, mean_gates_are_the_means_of_what_is_asked) {
  auto model = mixture();
  const auto all = run(model, under("mean"));
  auto request = under("mean");
  request.files.clear();
  request.forgetting.clear();
  EXPECT_EQ(run(model, request).scored[1].log_likelihood, all.scored[1].log_likelihood);
  EXPECT_NEAR(all.documents->mutual_information, 0, 1e-12) << "the same gates for every task";
  model.override_gates({});
  model::GateMeans means;
  ChoiceRows(request.choices, reader(config_), 512, true).watch(model, means);
  auto gates = gates::Override::parse("mean");
  gates.mean_E = means.mean_E();
  model.override_gates(gates);
  const auto scored = ChoiceRows(request.choices, reader(config_), 512, true).score(model);
  EXPECT_EQ(scored[1].log_likelihood, all.scored[1].log_likelihood);
}

TEST_F(FullEvaluationTest, json_holds_what_was_asked_for_and_nothing_else) {
  auto model = mixture();
  const auto all = to_json(run(model, request_), "m");
  EXPECT_EQ(all["tasks"]["quiz"].size(), 4U);
  for (const char* key : {"items", "acc", "acc_norm", "stderr"}) {
    EXPECT_TRUE(all["tasks"]["quiz"].contains(key)) << key;
  }
  EXPECT_TRUE(all["tasks"]["a"].contains("ce"));
  EXPECT_EQ(all["total"]["items"], 2) << "of the documents";
  EXPECT_TRUE(all["total"].contains("ce"));
  EXPECT_EQ(all["forgetting"].size(), 3U);
  auto request = request_;
  request.files.clear();
  request.forgetting.clear();
  const auto choices = to_json(run(model, request), "m");
  EXPECT_EQ(choices["model"], "m");
  EXPECT_EQ(choices["total"], choices["tasks"]["quiz"]);
  EXPECT_FALSE(choices.contains("forgetting") || choices.contains("load"));
}

TEST_F(FullEvaluationTest, lm_eval_finds_its_names) {
  auto model = mixture();
  const auto all = run(model, request_);
  const auto results = to_lm_eval_json(all, "m");
  const auto& quiz = results["results"]["quiz"];
  EXPECT_EQ(quiz["alias"], "quiz");
  EXPECT_EQ(quiz["acc,none"], all.choices.at("quiz").acc);
  EXPECT_EQ(quiz["acc_norm,none"], all.choices.at("quiz").acc_norm);
  EXPECT_EQ(quiz["acc_stderr,none"], all.choices.at("quiz").stderr_);
  EXPECT_EQ(quiz["acc_norm_stderr,none"], all.choices.at("quiz").stderr_norm);
  EXPECT_EQ(results["n-samples"]["quiz"]["effective"], 2);
  EXPECT_EQ(results["results"]["a"]["ce,none"], all.documents->tasks.at("a").ce);
  EXPECT_EQ(results["results"]["forgetting"]["perplexity,none"], all.forgetting->perplexity);
}

TEST_F(FullEvaluationTest, refuses_one_name_for_two_tasks_and_gates_that_are_not_there) {
  auto model = mixture();
  auto request = request_;
  request.choices[1].task = "b";
  const auto sentence = sentence_of<base::ContentError>([&] { (void)run(model, request); });
  EXPECT_TRUE(contains(sentence, "c.jsonl:2: the documents have a task b too")) << sentence;
  EXPECT_THROW((void)run(model, under("expert:3")), base::UsageError);
  auto bare = model.without_adapters();
  EXPECT_THROW((void)run(bare, under("top1")), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::train
