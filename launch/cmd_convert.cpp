#include <filesystem>

#include "checkpoints/convert/convert.h"
#include "checkpoints/convert/init_model.h"
#include "launch/commands.h"
#include "src/base/log.h"
#include "src/base/text.h"

namespace dfmoa::launch {

base::ExitCode run_convert(const Arguments& arguments) {
  checkpoints::ConvertOptions convert;
  auto fields = base::FieldList::of(convert);
  Options options("convert", "Converts a GGUF file or a Hugging Face folder.", {"SOURCE", "OUT"});
  options.add_fields(fields);
  if (!options.parse(arguments)) return base::ExitCode::done;
  options.assign_fields(fields);
  const std::filesystem::path out = options.text("OUT");
  checkpoints::convert(options.text("SOURCE"), out, convert);
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(out)) bytes += entry.file_size();
  base::Logger(true, options.verbose())
      .info(base::text("wrote ", out.string(), ", ", bytes / 1'000'000, " MB: `dfmoa inspect ",
                       out.string(), "` says what it holds"));
  return base::ExitCode::done;
}

base::ExitCode run_init_model(const Arguments& arguments) {
  checkpoints::InitModelOptions init;
  auto fields = base::FieldList::of(init);
  Options options("init-model", "Writes a seeded random base model as a Hugging Face folder.",
                  {"OUT"});
  options.add_fields(fields);
  if (!options.parse(arguments)) return base::ExitCode::done;
  options.assign_fields(fields);
  checkpoints::init_model(options.text("OUT"), init);
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
