// The conversation of `dfmoa generate` without a prompt.
#pragma once

#include <string>

#include "src/base/log.h"
#include "src/gates/override.h"
#include "src/model/generate.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {

struct ChatOptions {
  model::SamplingConfig sampling;
  gates::Override gates;
  std::string system;     ///< the system's message; empty: none
  bool is_plain = false;  ///< goes on with the text of all lines and answers, without a template
  bool show_gates = false;
  bool json = false;  ///< an object for every answer, once it is whole
};

/// Reads lines from stdin until its end and answers each on stdout as the tokens come. Earlier
/// lines and answers stay in the prompt; /reset forgets them. An interrupt (SIGINT) ends the answer
/// that is being said, or the loop while a line is waited for. A line for which the model has no
/// position left is told in the log and forgotten. Throws what Generator and SampleReader throw.
void chat(train::OpenedModel& opened, const ChatOptions& options, base::Logger& log);

/// As `dfmoa generate --json` prints a result.
[[nodiscard]] std::string result_json(const std::string& prompt,
                                      const std::vector<std::int32_t>& prompt_tokens,
                                      const model::Generator::Result& result,
                                      const data::Tokenizer& tokenizer, bool with_gates);

}  // namespace dfmoa::launch
