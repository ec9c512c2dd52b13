// [data]: which files, in which order, rendered how.
#pragma once

#include <string>
#include <vector>

#include "src/base/fields.h"

namespace dfmoa::data {

struct DataConfig {
  std::vector<std::string> train;
  std::vector<std::string> eval;
  std::string order = "shuffled";
  std::string span;
  std::string chat_template = "auto";
  std::string prompts = "plain";
  std::string long_documents = "error";
  bool skip_bad_lines = false;
  std::string index_dir;

  void fields(base::FieldList& list);
};

}  // namespace dfmoa::data
