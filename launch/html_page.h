// `dfmoa inspect --html`: what a run did, as one page that needs nothing else.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace dfmoa::launch {

/// What the page draws of a checkpoint, `found` by inspect_checkpoint, and of the metrics of the
/// run that `path` is or lies in, where there are some:
///   "checkpoint"  `found` without "sites", "use" and "tokens", which stand beside it
///   "ranks"       {"steps", "rows": [{"name": "0/q", "active": [..], "spectral": [..]}]}
///   "loss"        [{"name", "points": [[step, nats]]}]; "entropy_weights" likewise, by router
///   "thinned"     {"loss", "entropy_weights", "ranks"}: n where every n-th step is told
/// Numbers are rounded to 5 digits. Throws ContentError "file:line: ..." for broken metrics.
[[nodiscard]] nlohmann::json page_data(const std::filesystem::path& path,
                                       const nlohmann::json& found);

/// A page of HTML with its style, its script and `data`, which no text inside can break out of.
[[nodiscard]] std::string html_page(const nlohmann::json& data);

}  // namespace dfmoa::launch
