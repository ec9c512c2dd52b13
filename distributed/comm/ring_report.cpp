#include "distributed/comm/ring_report.h"

#include <algorithm>
#include <map>

#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

std::string call(const RingEntry& entry) {
  return base::text("#", entry.number, " ", describe(entry.record));
}

/// "process 3" or "processes 1, 2".
std::string processes(const std::vector<int>& numbers) {
  std::vector<std::string> words;
  for (const int number : numbers) words.push_back(std::to_string(number));
  return (numbers.size() == 1 ? "process " : "processes ") + base::join(words, ", ");
}

/// The processes that called the same thing under one number.
struct Party {
  const RingEntry* entry;
  std::vector<int> members;
};

/// Larger parties last: what most processes did was what was meant.
std::vector<Party> parties_of(const std::vector<Ring>& rings, std::int64_t number) {
  std::vector<Party> parties;
  for (const auto& ring : rings) {
    const auto found = std::find_if(ring.entries.begin(), ring.entries.end(),
                                    [&](const auto& entry) { return entry.number == number; });
    if (found == ring.entries.end()) continue;
    const auto same = std::find_if(parties.begin(), parties.end(), [&](const auto& party) {
      return party.entry->record.matches(found->record);
    });
    if (same != parties.end()) {
      same->members.push_back(ring.process);
    } else {
      parties.push_back({&*found, {ring.process}});
    }
  }
  std::stable_sort(parties.begin(), parties.end(), [](const auto& a, const auto& b) {
    return a.members.size() < b.members.size();
  });
  return parties;
}

/// The first number under which not all processes called the same; empty if there is none.
std::string first_difference(const std::vector<Ring>& rings) {
  std::map<std::int64_t, const RingEntry*> first;
  std::int64_t earliest = 0;
  for (const auto& ring : rings) {
    for (const auto& entry : ring.entries) {
      const auto [at, is_new] = first.try_emplace(entry.number, &entry);
      if (is_new || at->second->record.matches(entry.record)) continue;
      if (earliest == 0 || entry.number < earliest) earliest = entry.number;
    }
  }
  if (earliest == 0) return {};
  std::vector<std::string> words;
  for (const auto& party : parties_of(rings, earliest)) {
    words.push_back(processes(party.members) + " called " + call(*party.entry));
  }
  return base::join(words, ", ");
}

/// Those behind the newest collective, or still inside the one that others have left.
std::vector<std::string> late_processes(const std::vector<Ring>& rings) {
  const RingEntry* front = nullptr;
  for (const auto& ring : rings) {
    if (ring.entries.empty()) continue;
    const auto& last = ring.entries.back();
    if (front == nullptr || last.number > front->number) front = &last;
  }
  if (front == nullptr) return {"no process has called a collective"};
  std::vector<std::string> sentences;
  std::vector<int> inside;
  std::vector<int> outside;
  for (const auto& ring : rings) {
    const auto who = processes({ring.process});
    if (ring.entries.empty()) {
      sentences.push_back(base::text(who, " never entered ", call(*front), ": it called none"));
    } else if (const auto& last = ring.entries.back(); last.number == front->number) {
      (last.has_ended ? outside : inside).push_back(ring.process);
    } else if (last.has_ended) {
      sentences.push_back(
          base::text(who, " never entered ", call(*front), ": its last was ", call(last)));
    } else {
      sentences.push_back(
          base::text(who, " never left ", call(last), ": others are at ", call(*front)));
    }
  }
  if (!sentences.empty()) return sentences;
  if (inside.empty()) return {"all processes ended " + call(*front)};
  if (outside.empty()) return {"all processes are inside " + call(*front)};
  return {processes(inside) + " never left " + call(*front) + ", which others ended"};
}

}  // namespace

std::vector<Ring> read_rings(const std::filesystem::path& folder) {
  std::vector<Ring> rings{read_ring(ring_path(folder, 0))};
  for (int process = 1; process < rings.front().num_processes; ++process) {
    const auto path = ring_path(folder, process);
    if (std::filesystem::exists(path)) rings.push_back(read_ring(path));
  }
  return rings;
}

std::vector<std::string> ring_report(const std::vector<Ring>& rings) {
  std::vector<std::string> sentences;
  const int expected = rings.empty() ? 0 : rings.front().num_processes;
  for (int process = 0; process < expected; ++process) {
    const bool is_there = std::any_of(rings.begin(), rings.end(),
                                      [&](const Ring& ring) { return ring.process == process; });
    if (!is_there) sentences.push_back(base::text("process ", process, " left no ring"));
  }
  if (const auto difference = first_difference(rings); !difference.empty()) {
    sentences.push_back(difference);
  }
  const auto late = late_processes(rings);
  sentences.insert(sentences.end(), late.begin(), late.end());
  return sentences;
}

}  // namespace dfmoa::comm
