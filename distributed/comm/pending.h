// A collective that was started and is waited for later.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "distributed/comm/record.h"

namespace dfmoa::comm {

class Recorder;

/// What a back end still has to do for a collective that it has started. The destructor of one that
/// was not finished gives it up: it returns soon, whatever the other processes do.
class InFlight {
 public:
  virtual ~InFlight() = default;
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  /// Called once at most. Throws MachineError as the collective itself would.
  virtual void finish() = 0;

 protected:
  InFlight() = default;
};

/// Nobody may touch the memory of the collective before `wait`: not write what is sent, not look at
/// what is received. May outlive its communicator.
class Pending {
 public:
  /// Nothing is pending: `wait` returns at once.
  Pending() = default;
  Pending(Pending&&) noexcept = default;
  /// What was pending here ends as it does in the destructor.
  Pending& operator=(Pending&& other) noexcept;
  /// One that was not waited for is waited for here: the caller's memory may be gone afterwards. A
  /// failure then is thrown by the next collective of this process, for a destructor cannot.
  /// While an exception passes by, nobody can say whether the others still come: it is given up
  /// instead. The process is expected to end; what it was to receive is undefined.
  ~Pending();

  /// Returns when the results are there and the memory is free; at once the second time.
  /// Throws as the collective itself.
  void wait();

 private:
  friend class Communicator;
  /// What it returns is null where nothing is left to be done.
  using Start = std::function<std::unique_ptr<InFlight>()>;

  Pending(std::shared_ptr<Recorder> recorder, Record call, int process, const Start& start);
  template <class Body>
  void in_context(Body&& body) const;

  std::shared_ptr<Recorder> recorder_;  // null: nothing is pending
  Record call_;
  int process_ = 0;
  std::int64_t number_ = 0;
  int exceptions_ = 0;  // on their way when it was started
  std::unique_ptr<InFlight> in_flight_;
};

}  // namespace dfmoa::comm
