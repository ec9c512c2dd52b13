#include "src/data/config.h"

namespace dfmoa::data {

void DataConfig::fields(base::FieldList& list) {
  list.add("train", train, "JSONL files (also .zst), read one after the other");
  list.add("eval", eval, "held-out JSONL files");
  list.add("order", order, "shuffled: a new permutation every epoch; file: as written")
      .one_of({"shuffled", "file"});
  list.add("span", span,
           "pattern whose group 1 marks the instruction in a rendered prompt (scope span)");
  list.add("template", chat_template,
           "chat template: auto (the model's), chatml, llama3, alpaca or plain")
      .one_of({"auto", "chatml", "llama3", "alpaca", "plain"});
  list.add("prompts", prompts,
           "lines with prompt and completion: plain (as written) or chat (turns of the template)")
      .one_of({"plain", "chat"});
  list.add("long", long_documents, "documents longer than a row: error, truncate or split")
      .one_of({"error", "truncate", "split"});
  list.add("skip_bad_lines", skip_bad_lines, "count broken lines instead of stopping");
  list.add("index_dir", index_dir,
           "folder for line indices where the folder of a data file is not writable");
}

}  // namespace dfmoa::data
