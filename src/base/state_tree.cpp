#include "src/base/state_tree.h"

#include "src/base/error.h"

namespace dfmoa::base {

void StateTree::add(StateEntry entry) {
  const auto& name = entry.name;
  if (name.empty() || name.front() == '/' || name.back() == '/' ||
      name.find("//") != std::string::npos || name.find('.') != std::string::npos) {
    throw ContentError("state '" + name + "': expected a path such as layer/17/q/expert/5/A");
  }
  const auto key = name;
  if (!entries_.emplace(key, std::move(entry)).second) {
    throw ContentError("state " + key + " is listed twice");
  }
}

const StateEntry& StateTree::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw ContentError("state " + name + " is missing");
  return found->second;
}

const StateValue& StateTree::value(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) throw ContentError("state value " + name + " is missing");
  return found->second;
}

std::int64_t StateTree::integer(const std::string& name) const {
  const auto* number = std::get_if<std::int64_t>(&value(name));
  if (number == nullptr) throw ContentError("state value " + name + ": expected a whole number");
  return *number;
}

double StateTree::real(const std::string& name) const {
  const auto* number = std::get_if<double>(&value(name));
  if (number == nullptr) throw ContentError("state value " + name + ": expected a real number");
  return *number;
}

const std::string& StateTree::text(const std::string& name) const {
  const auto* words = std::get_if<std::string>(&value(name));
  if (words == nullptr) throw ContentError("state value " + name + ": expected text");
  return *words;
}

}  // namespace dfmoa::base
