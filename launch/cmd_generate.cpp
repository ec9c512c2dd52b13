#include <iostream>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "launch/gate_text.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/model/generate.h"
#include "src/ops/device.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

std::vector<std::string> prompts_of(const Options& options) {
  if (options.has("prompt")) return {options.text("prompt")};
  if (options.has("prompts")) return base::split(base::read_file(options.text("prompts")), '\n');
  throw base::UsageError("generate: -p TEXT or --prompts FILE is missing");
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

/// Every token with its strongest expert.
void print_gates(const data::Tokenizer& tokenizer, const model::Generator::Result& result) {
  const bool colour = shows_colour();
  const auto pieces = pieces_of(tokenizer, result.tokens);
  for (std::size_t t = 0; t < pieces.size(); ++t) {
    std::cout << marked(pieces[t], result.gates[t], colour);
  }
  std::cout << "\n";
}

}  // namespace

base::ExitCode run_generate(const Arguments& arguments) {
  namespace po = boost::program_options;
  model::SamplingConfig sampling;
  auto fields = base::FieldList::of(sampling);
  Options options("generate", "Text from a model, run or checkpoint.", {"MODEL"});
  options.add()("prompt,p", po::value<std::string>(), "one prompt")(
      "prompts", po::value<std::string>(), "a file with one prompt a line, generated as a batch")(
      "base", po::value<std::string>(), "base model folder, where it has moved")(
      "plain", "take the prompt as it is, without the model's chat template")(
      "instruction", "the prompt (-p) is an instruction, as in lines of {\"instruction\"}")(
      "input", po::value<std::string>(), "what the prompt, then an instruction, is about")(
      "system", po::value<std::string>(), "the system's message before the prompt")(
      "device", po::value<std::string>()->default_value("auto"), "auto, cpu or cuda")(
      "show-gates", "mark every token with its strongest expert")("json", "print JSON");
  options.add_fields(fields);
  if (!options.parse(arguments)) return base::ExitCode::done;
  options.assign_fields(fields);
  base::Logger log(true, options.verbose());
  refuse_in_plain(options);
  const auto prompts = prompts_of(options);
  const auto device = ops::choose_device(options.text("device"), 0, "--device");
  const auto opened = train::open_model(options.text("MODEL"), options.text("base"), log, device);
  model::Generator::Prompts tokens;
  model::Generator::Spans spans;
  for (const auto& prompt : prompts) {
    auto encoded = options.has("plain") ? opened.reader->plain_prompt(prompt)
                                        : opened.reader->prompt(question_of(prompt, options));
    spans.emplace_back(encoded.span_begin, encoded.span_end);
    tokens.push_back(std::move(encoded.token));
  }
  const model::Generator generator(*opened.model, sampling, opened.reader->stop_ids(),
                                   opened.tokenizer->vocabulary());
  const auto results = generator.run(tokens, spans, {}, options.has("show-gates"));
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto text = opened.tokenizer->decode(results[i].tokens, /*skip_special=*/true);
    if (options.has("json")) {
      nlohmann::json json{{"prompt", prompts[i]},
                          {"prompt_tokens", tokens[i]},
                          {"tokens", results[i].tokens},
                          {"text", text}};
      if (options.has("show-gates")) json["gates"] = results[i].gates;
      std::cout << json.dump() << "\n";
    } else if (options.has("show-gates")) {
      print_gates(*opened.tokenizer, results[i]);
    } else {
      std::cout << text << "\n";
    }
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
