#include <algorithm>
#include <cstdio>

#include "launch/gate_text.h"
#include "launch/inspect.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/loader.h"
#include "src/data/utf8.h"
#include "src/model/gate_record.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

constexpr std::int64_t kTokensOfRow = 512;  // a longer sample has a row of its own
constexpr const char* kMean = "mean";
constexpr std::size_t kCell = 18;

/// A router whose gates are told; null: the mean over the routers of experts.
struct Chosen {
  std::string name;
  std::int64_t layer = 0;
  const model::BlockRouter* router = nullptr;
};

std::string router_name(std::int64_t layer, const model::BlockRouter& router) {
  return base::text(layer, "/", router.name);
}

std::vector<Chosen> choose_routers(const model::Transformer& model,
                                   const std::vector<std::string>& names) {
  std::vector<Chosen> known;
  std::vector<std::string> known_names;
  bool has_experts = false;
  for (const auto& block : model.blocks()) {
    for (const auto& router : block.adapters().routers) {
      known.push_back({router_name(block.layer(), router), block.layer(), &router});
      known_names.push_back(known.back().name);
      has_experts = has_experts || !router.of_heads;
    }
  }
  if (known.empty()) throw base::UsageError("inspect: --tokens: the checkpoint has no router");
  if (names.empty())
    return has_experts ? std::vector<Chosen>{{kMean, 0, nullptr}} : std::vector<Chosen>{};
  std::vector<Chosen> chosen;
  for (auto name : names) {
    if (name.starts_with("layer/")) name.erase(0, std::string("layer/").size());
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const auto& one) { return one.name == name; });
    if (found == known.end()) {
      throw base::UsageError(base::text("inspect: --router ", name,
                                        ": there is none; the nearest is ",
                                        base::nearest(name, known_names)));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

/// What each gate of a chosen router is of, where that is not its number. The mean has labels where
/// all its routers have the same.
std::vector<std::string> labels_of(const model::Transformer& model, const Chosen& chosen) {
  if (chosen.router != nullptr) return chosen.router->labels;
  std::vector<std::string> labels;
  bool is_first = true;
  for (const auto& block : model.blocks()) {
    for (const auto& router : block.adapters().routers) {
      if (router.of_heads) continue;
      if (!is_first && router.labels != labels) return {};
      labels = router.labels;
      is_first = false;
    }
  }
  return labels;
}

/// Rows [begin, end) as lists of numbers.
nlohmann::json rows_json(const at::Tensor& w_TE, std::int64_t begin, std::int64_t end) {
  nlohmann::json rows = nlohmann::json::array();
  const auto w = w_TE.to(at::kFloat).contiguous();
  for (auto t = begin; t < end; ++t) {
    const auto* gate = w[t].const_data_ptr<float>();
    rows.push_back(std::vector<float>(gate, gate + w.size(1)));
  }
  return rows;
}

/// The gates of one pass, of which documents are cut.
class TokenGates {
 public:
  TokenGates(const train::OpenedModel& opened, const std::vector<Chosen>& chosen,
             const model::PackedRows& rows)
      : opened_(opened), record_(*opened.model) {
    (void)opened.model->hidden(rows, nullptr, &record_);
    for (const auto& one : chosen) {
      if (one.router == nullptr) gates_.emplace_back(one.name, record_.mean_of_experts());
      for (const auto& entry : record_.entries()) {
        if (entry.router == one.router) gates_.emplace_back(one.name, entry.w_TE);
      }
    }
    heads_TH_ = record_.mean_of_heads();
  }

  /// Of the document whose first token is row `begin`.
  [[nodiscard]] nlohmann::json document(const std::vector<std::int32_t>& token,
                                        std::int64_t begin) const {
    const auto end = begin + static_cast<std::int64_t>(token.size());
    nlohmann::json json{{"tokens", token},
                        {"pieces", pieces_of(*opened_.tokenizer, token)},
                        {"gates", nlohmann::json::object()}};
    for (const auto& [name, w_TE] : gates_) json["gates"][name] = rows_json(w_TE, begin, end);
    if (heads_TH_.defined()) json["head_gates"] = rows_json(heads_TH_, begin, end);
    return json;
  }

 private:
  const train::OpenedModel& opened_;
  model::GateRecord record_;
  std::vector<std::pair<std::string, at::Tensor>> gates_;
  at::Tensor heads_TH_;
};

nlohmann::json plain_text(const train::OpenedModel& opened, const std::vector<Chosen>& chosen,
                          const std::string& file) {
  const auto prompt = opened.reader->plain_prompt(base::read_file(file));
  if (prompt.token.empty()) {
    throw base::ContentError(file + ": the text has no token, expected at least one");
  }
  const auto rows = opened.model->pack_sequences({prompt.token}, {0});
  auto text = TokenGates(opened, chosen, rows).document(prompt.token, 0);
  text["where"] = file;
  return nlohmann::json::array({std::move(text)});
}

nlohmann::json samples_of(const train::OpenedModel& opened, const std::vector<Chosen>& chosen,
                          const std::string& file) {
  nlohmann::json texts = nlohmann::json::array();
  data::for_each_row({file}, *opened.reader, kTokensOfRow,
                     [&](const data::PackedRow& row, const std::vector<data::Sample>& samples) {
                       const TokenGates gates(opened, chosen, opened.model->pack(row));
                       for (std::size_t d = 0; d < samples.size(); ++d) {
                         const auto begin = row.document_begin[d];
                         const std::vector<std::int32_t> token(
                             row.token_T.begin() + begin,
                             row.token_T.begin() + row.document_begin[d + 1]);
                         texts.push_back(gates.document(token, begin));
                         texts.back()["where"] = samples[d].where;
                         if (!samples[d].task.empty()) texts.back()["task"] = samples[d].task;
                       }
                     });
  return texts;
}

/// A piece in a table cell of kCell characters, control characters by their escapes.
std::string cell(const std::string& piece) {
  const auto quoted = nlohmann::json(piece).dump();
  std::size_t at = 0;
  std::size_t characters = 0;
  for (; at < quoted.size() && characters < kCell; ++characters) {
    at += data::code_point_at(quoted, at).length;
  }
  return quoted.substr(0, at) + std::string(kCell - characters, ' ');
}

void print_numbers(const nlohmann::json& gates) {
  for (const double gate : gates) std::printf(" %6.3f", gate);
}

void print_text(const nlohmann::json& text, const std::string& router) {
  static const nlohmann::json kNone = nlohmann::json::array();
  const auto& heads = text.contains("head_gates") ? text["head_gates"] : kNone;
  const auto& gates = router.empty() ? kNone : text["gates"][router];
  const bool colour = shows_colour();
  std::string line;
  for (std::size_t t = 0; t < text["pieces"].size(); ++t) {
    const auto& shown = router.empty() ? heads[t] : gates[t];
    line += marked(text["pieces"][t], shown.get<std::vector<float>>(), colour);
  }
  std::printf("%s\n%5s %6s %s gates%s\n", line.c_str(), "token", "id",
              std::string("piece").append(kCell - 5, ' ').c_str(),
              heads.empty() ? "" : " | of heads");
  for (std::size_t t = 0; t < text["pieces"].size(); ++t) {
    std::printf("%5zu %6d %s", t, text["tokens"][t].get<int>(), cell(text["pieces"][t]).c_str());
    if (!gates.empty()) print_numbers(gates[t]);
    if (!heads.empty()) std::printf(" |");
    if (!heads.empty()) print_numbers(heads[t]);
    std::printf("\n");
  }
}

}  // namespace

nlohmann::json inspect_tokens(const train::OpenedModel& opened, const std::string& file,
                              const std::vector<std::string>& routers) {
  const auto chosen = choose_routers(*opened.model, routers);
  nlohmann::json json{{"file", file}, {"routers", nlohmann::json::array()}};
  for (const auto& one : chosen) {
    nlohmann::json router{{"name", one.name}};
    if (one.router != nullptr && one.router->of_heads) router["of_heads"] = true;
    const auto labels = labels_of(*opened.model, one);
    if (!labels.empty()) router["labels"] = labels;
    json["routers"].push_back(std::move(router));
  }
  const bool has_samples = file.ends_with(".jsonl") || file.ends_with(".jsonl.zst");
  json["texts"] = has_samples ? samples_of(opened, chosen, file) : plain_text(opened, chosen, file);
  return json;
}

void print_tokens(const nlohmann::json& tokens) {
  auto routers = tokens["routers"];
  if (routers.empty()) routers.push_back({{"name", ""}});  // heads alone
  for (const auto& router : routers) {
    const auto name = router["name"].get<std::string>();
    std::printf("\n%s\n", name.empty()    ? "mean over the routers of heads"
                          : name == kMean ? "mean over the routers of experts"
                                          : ("router " + name).c_str());
    if (router.contains("labels")) {
      std::printf("gates are of %s\n",
                  base::join(router["labels"].get<std::vector<std::string>>(), ", ").c_str());
    }
    for (const auto& text : tokens["texts"]) {
      std::printf("\n%s%s%s\n", text["where"].get<std::string>().c_str(),
                  text.contains("task") ? ", task " : "",
                  text.value("task", std::string()).c_str());
      print_text(text, name);
    }
  }
}

}  // namespace dfmoa::launch
