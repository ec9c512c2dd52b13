#include <iostream>

#include "launch/chat.h"
#include "launch/commands.h"
#include "launch/token_printer.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/model/gate_means.h"
#include "src/model/generate.h"
#include "src/ops/device.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

/// None: a conversation was asked for.
std::vector<std::string> prompts_of(const Options& options) {
  if (options.has("prompt")) return {options.text("prompt")};
  if (options.has("prompts")) {
    auto prompts = base::split(base::read_file(options.text("prompts")), '\n');
    if (!prompts.empty()) return prompts;
    throw base::UsageError(
        base::text("generate: ", options.text("prompts"), " holds no prompt, expected one a line"));
  }
  if (options.has("instruction") || options.has("input")) {
    throw base::UsageError("generate: -p TEXT or --prompts FILE is missing beside --instruction");
  }
  return {};
}

data::Question question_of(const std::string& prompt, const Options& options) {
  const auto given = [&](const char* name) {
    return options.has(name) ? options.text(name) : std::string();
  };
  return {prompt, given("input"), given("system"),
          options.has("instruction") || options.has("input")};
}

void refuse_in_plain(const Options& options) {
  for (const char* name : {"instruction", "input", "system"}) {
    if (!options.has("plain") || !options.has(name)) continue;
    throw base::UsageError(
        base::text("generate: --", name, " needs the chat template, --plain goes without"));
  }
}

/// The prompts of -p or --prompts as the model reads them.
struct Batch {
  std::vector<std::string> prompts;
  model::Generator::Prompts tokens;
  model::Generator::Spans spans;
};

Batch read_batch(const std::vector<std::string>& prompts, const Options& options,
                 const data::SampleReader& reader) {
  Batch batch{prompts, {}, {}};
  for (const auto& prompt : prompts) {
    auto encoded = options.has("plain") ? reader.plain_prompt(prompt)
                                        : reader.prompt(question_of(prompt, options));
    batch.spans.emplace_back(encoded.span_begin, encoded.span_end);
    batch.tokens.push_back(std::move(encoded.token));
  }
  return batch;
}

void generate_batch(train::OpenedModel& opened, const Batch& batch,
                    const model::SamplingConfig& sampling, const Options& options) {
  const model::Generator generator(*opened.model, sampling, opened.reader->stop_ids(),
                                   opened.tokenizer->vocabulary());
  generator.check(batch.tokens);
  const auto gates = gates::Override::parse(options.text("gates"));
  model::override_gates(*opened.model, gates, [&](model::GateSink& sink) {
    const std::vector<std::int64_t> start(batch.tokens.size(), 0);
    (void)opened.model->hidden(opened.model->pack_sequences(batch.tokens, start, batch.spans),
                               nullptr, &sink);
  });
  const bool with_gates = options.has("show-gates");
  const auto results = generator.run(batch.tokens, batch.spans, {}, with_gates);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto& result = results[i];
    if (options.has("json")) {
      std::cout << result_json(batch.prompts[i], batch.tokens[i], result, *opened.tokenizer,
                               with_gates)
                << "\n";
      continue;
    }
    TokenPrinter printer(*opened.tokenizer, with_gates);
    for (std::size_t t = 0; t < result.tokens.size(); ++t) {
      printer.print(result.tokens[t], with_gates ? std::span<const float>(result.gates[t])
                                                 : std::span<const float>());
    }
    printer.end();
  }
}

void start_chat(train::OpenedModel& opened, const model::SamplingConfig& sampling,
                const Options& options, base::Logger& log) {
  const bool is_plain = options.has("plain") || !opened.reader->has_template();
  if (is_plain && options.has("system")) {
    throw base::UsageError("generate: --system needs a chat template, the model has none");
  }
  chat(opened,
       {sampling, gates::Override::parse(options.text("gates")), options.text("system"), is_plain,
        options.has("show-gates"), options.has("json")},
       log);
}

void list_generate_options(Options& options) {
  namespace po = boost::program_options;
  options.add()("prompt,p", po::value<std::string>(), "one prompt")(
      "prompts", po::value<std::string>(), "a file with one prompt a line, generated as a batch")(
      "base", po::value<std::string>(), "base model folder, where it has moved")(
      "plain", "take the prompt as it is, without the model's chat template")(
      "instruction", "the prompt (-p) is an instruction, as in lines of {\"instruction\"}")(
      "input", po::value<std::string>(), "what the prompt, then an instruction, is about")(
      "system", po::value<std::string>(), "the system's message before the prompt")(
      "device", po::value<std::string>()->default_value("auto"), "auto, cpu or cuda")(
      "gates", po::value<std::string>()->default_value("soft"),
      "soft, topk, topk:K, top1, mean (over the tokens of the prompts) or expert:I, as in eval")(
      "show-gates", "mark every token with its strongest expert")("json", "print JSON");
  options.add_epilogue(
      "\nWithout a prompt it is a conversation: every line of stdin is answered as the tokens "
      "come,\n"
      "what was said before stays in the prompt, /reset forgets it, the end of the input leaves.\n"
      "Ctrl-C ends an answer, or leaves while a line is waited for. A model without a chat "
      "template\n"
      "(or --plain) goes on with the text. --json prints an object for every answer.\n");
}

}  // namespace

base::ExitCode run_generate(const Arguments& arguments) {
  model::SamplingConfig sampling;
  auto fields = base::FieldList::of(sampling);
  Options options("generate", "Text from a model, run or checkpoint.", {"MODEL"});
  list_generate_options(options);
  options.add_fields(fields);
  if (!options.parse(arguments)) return base::ExitCode::done;
  options.assign_fields(fields);
  base::Logger log(true, options.verbose());
  refuse_in_plain(options);
  const auto prompts = prompts_of(options);
  const auto gates = gates::Override::parse(options.text("gates"));
  const auto device = ops::choose_device(options.text("device"), 0, "--device");
  auto opened = train::open_model(options.text("MODEL"), options.text("base"), log, device);
  opened.model->override_gates(gates);  // refused before a line is waited for
  if (prompts.empty()) {
    start_chat(opened, sampling, options, log);
  } else {
    generate_batch(opened, read_batch(prompts, options, *opened.reader), sampling, options);
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
