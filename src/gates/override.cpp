#include "src/gates/override.h"

#include <charconv>
#include <limits>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {
namespace {

/// The whole number behind a colon; nothing for other text.
bool read_number(std::string_view text, std::int64_t& number) {
  const auto* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end && number >= 0;
}

/// The k largest gates of every token, scaled to the sum of all. Gates that are all 0 stay 0.
at::Tensor largest_alone(const at::Tensor& w_TE, std::int64_t k) {
  // A stable sort keeps equal values in index order.
  const auto order = std::get<1>(w_TE.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true));
  const auto kept_TE = w_TE * at::zeros_like(w_TE).scatter_(1, order.narrow(1, 0, k), 1.0);
  const auto smallest = static_cast<double>(std::numeric_limits<float>::min());
  const auto kept_T1 = kept_TE.sum(1, /*keepdim=*/true).clamp_min(smallest);
  return kept_TE * (w_TE.sum(1, /*keepdim=*/true) / kept_T1);
}

}  // namespace

Override Override::parse(const std::string& text) {
  const auto is_number_behind = [&](std::string_view name, std::int64_t& number) {
    return text.starts_with(name) &&
           read_number(std::string_view(text).substr(name.size()), number);
  };
  Override gates;
  if (text == "soft") return gates;
  gates.kind = Kind::top;
  if (text == "topk") return gates;
  if (text == "top1") {
    gates.number = 1;
    return gates;
  }
  if (is_number_behind("topk:", gates.number) && gates.number > 0) return gates;
  gates.kind = Kind::mean;
  if (text == "mean") return gates;
  gates.kind = Kind::expert;
  if (is_number_behind("expert:", gates.number)) return gates;
  throw base::UsageError(
      base::text("--gates ", text, ": expected soft, topk, topk:K, top1, mean or expert:I"));
}

void Override::check(const std::string& router, std::int64_t experts) const {
  if (kind == Kind::top && number > experts) {
    throw base::UsageError(base::text("--gates topk:", number, ": router ", router, " has ",
                                      experts, " experts, expected at most ", experts));
  }
  if (kind == Kind::expert && number >= experts) {
    throw base::UsageError(base::text("--gates expert:", number, ": router ", router, " has ",
                                      experts, " experts, expected 0 to ", experts - 1));
  }
}

at::Tensor Override::apply(const RouterKey& key, const RouterConfig& config,
                           const at::Tensor& w_TE) const {
  if (kind == Kind::soft) return w_TE;
  if (kind == Kind::mean) {
    const auto found = mean_E.find(key);
    if (found == mean_E.end()) {
      throw base::ShapeError(base::text("mean gates: none for router ", key.second, " of block ",
                                        key.first, ", expected one row for every router"));
    }
    return found->second.to(w_TE.options()).expand_as(w_TE).contiguous();
  }
  if (kind == Kind::expert) {
    auto alone_TE = at::zeros_like(w_TE);
    alone_TE.narrow(1, number, 1).copy_(w_TE.sum(1, /*keepdim=*/true));
    return alone_TE;
  }
  const auto k = number > 0 ? number : config.top_k;
  return largest_alone(w_TE, std::min(k, w_TE.size(1)));
}

}  // namespace dfmoa::gates
