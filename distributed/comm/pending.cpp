#include "distributed/comm/pending.h"

#include <exception>
#include <utility>

#include "distributed/comm/recorder.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {

template <class Body>
void Pending::in_context(Body&& body) const {
  try {
    body();
  } catch (...) {
    std::throw_with_nested(
        base::Context(base::text("collective #", number_, " ", describe(call_), " on process ",
                                 process_, " of ", call_.processes)));
  }
}

Pending::Pending(std::shared_ptr<Recorder> recorder, Record call, int process, const Start& start)
    : recorder_(std::move(recorder)),
      call_(std::move(call)),
      process_(process),
      number_(recorder_->begin(call_)),
      exceptions_(std::uncaught_exceptions()) {
  in_context([&] { in_flight_ = start(); });
  recorder_->leave(number_);
}

Pending::~Pending() {
  if (recorder_ == nullptr || std::uncaught_exceptions() > exceptions_) return;
  const auto recorder = recorder_;
  try {
    wait();
  } catch (...) {  // thrown by whatever begins next
    recorder->fail(std::current_exception());
  }
}

Pending& Pending::operator=(Pending&& other) noexcept {
  Pending old(std::move(other));
  std::swap(recorder_, old.recorder_);
  std::swap(call_, old.call_);
  std::swap(process_, old.process_);
  std::swap(number_, old.number_);
  std::swap(exceptions_, old.exceptions_);
  std::swap(in_flight_, old.in_flight_);
  return *this;
}

void Pending::wait() {
  if (recorder_ == nullptr) return;
  const auto recorder = std::move(recorder_);  // over, however it ends
  const auto in_flight = std::move(in_flight_);
  recorder->enter(number_);
  if (in_flight) in_context([&] { in_flight->finish(); });
  recorder->end(number_);
}

}  // namespace dfmoa::comm
