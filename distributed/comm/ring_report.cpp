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

const RingEntry* entry_of(const Ring& ring, std::int64_t number) {
  const auto found = std::find_if(ring.entries.begin(), ring.entries.end(),
                                  [&](const auto& entry) { return entry.number == number; });
  return found == ring.entries.end() ? nullptr : &*found;
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
    const auto* found = entry_of(ring, number);
    if (found == nullptr) continue;
    const auto same = std::find_if(parties.begin(), parties.end(), [&](const auto& party) {
      return party.entry->record.matches(found->record);
    });
    if (same != parties.end()) {
      same->members.push_back(ring.process);
    } else {
      parties.push_back({found, {ring.process}});
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
  const auto parties = parties_of(rings, earliest);
  const int size = parties.front().entry->record.processes;
  const bool same_size = std::all_of(parties.begin(), parties.end(), [&](const auto& party) {
    return party.entry->record.processes == size;
  });
  std::vector<std::string> words;
  for (const auto& [entry, members] : parties) {
    words.push_back(processes(members) + " called " + call(*entry));
    if (!same_size) words.back() += base::text(" among ", entry->record.processes);
  }
  return base::join(words, ", ");
}

/// The collective that a process starts or waits for; null if it does something else.
const RingEntry* inside_of(const Ring& ring) {
  const auto found =
      std::find_if(ring.entries.rbegin(), ring.entries.rend(),
                   [](const RingEntry& entry) { return !entry.has_ended && !entry.is_in_flight; });
  return found == ring.entries.rend() ? nullptr : &*found;
}

/// The newest collective of all; null if there is none.
const RingEntry* newest(const std::vector<Ring>& rings) {
  const RingEntry* front = nullptr;
  for (const auto& ring : rings) {
    if (ring.entries.empty()) continue;
    const auto& last = ring.entries.back();
    if (front == nullptr || last.number > front->number) front = &last;
  }
  return front;
}

/// Those behind the newest collective.
std::vector<std::string> late_processes(const std::vector<Ring>& rings, const RingEntry& front) {
  std::vector<std::string> sentences;
  for (const auto& ring : rings) {
    const auto who = processes({ring.process});
    if (ring.entries.empty()) {
      sentences.push_back(base::text(who, " never entered ", call(front), ": it called none"));
    } else if (const auto& last = ring.entries.back(); last.number == front.number) {
      continue;
    } else if (const auto* inside = inside_of(ring)) {
      sentences.push_back(
          base::text(who, " never left ", call(*inside), ": others are at ", call(front)));
    } else {
      sentences.push_back(
          base::text(who, " never entered ", call(front), ": its last was ", call(last)));
    }
  }
  return sentences;
}

/// All have come to the newest collective: those still inside one, started or waited for.
std::vector<std::string> inside_processes(const std::vector<Ring>& rings) {
  std::map<std::int64_t, Party> inside;
  for (const auto& ring : rings) {
    const auto* entry = inside_of(ring);
    if (entry == nullptr) continue;
    inside.try_emplace(entry->number, Party{entry, {}})
        .first->second.members.push_back(ring.process);
  }
  std::vector<std::string> sentences;
  for (const auto& [number, party] : inside) {
    if (party.members.size() == rings.size())
      return {"all processes are inside " + call(*party.entry)};
    const bool others_ended = std::any_of(rings.begin(), rings.end(), [&](const Ring& ring) {
      const auto* entry = entry_of(ring, number);
      return entry != nullptr && entry->has_ended;
    });
    sentences.push_back(processes(party.members) + " never left " + call(*party.entry) +
                        (others_ended ? ", which others ended" : ""));
  }
  return sentences;
}

/// What was started and neither ended nor is waited for, by whom.
std::vector<std::string> started_only(const std::vector<Ring>& rings) {
  std::map<std::int64_t, Party> started;
  for (const auto& ring : rings) {
    for (const auto& entry : ring.entries) {
      if (!entry.is_in_flight) continue;
      started.try_emplace(entry.number, Party{&entry, {}})
          .first->second.members.push_back(ring.process);
    }
  }
  std::vector<std::string> sentences;
  for (const auto& [number, party] : started) {
    const bool all = party.members.size() == rings.size();
    sentences.push_back((all ? "all processes" : processes(party.members)) + " started " +
                        call(*party.entry) + " and did not wait for it");
  }
  return sentences;
}

/// Where everybody is: behind, inside, or done; and what is in flight.
std::vector<std::string> whereabouts(const std::vector<Ring>& rings) {
  const auto* front = newest(rings);
  if (front == nullptr) return {"no process has called a collective"};
  auto sentences = late_processes(rings, *front);
  if (sentences.empty()) sentences = inside_processes(rings);
  const auto in_flight = started_only(rings);
  sentences.insert(sentences.end(), in_flight.begin(), in_flight.end());
  if (sentences.empty()) return {"all processes ended " + call(*front)};
  return sentences;
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
  const auto where = whereabouts(rings);
  sentences.insert(sentences.end(), where.begin(), where.end());
  return sentences;
}

}  // namespace dfmoa::comm
