#include "distributed/comm/mpi_in_flight.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

/// For messages that are given up: what is on its way already comes within that time, or never.
constexpr auto kPatience = std::chrono::milliseconds(200);

std::string words_of(int status) {
  std::array<char, MPI_MAX_ERROR_STRING> words{};
  int length = 0;
  MPI_Error_string(status, words.data(), &length);
  return {words.data(), static_cast<std::size_t>(length)};
}

}  // namespace

void check_mpi(int status, const char* doing) {
  if (status != MPI_SUCCESS) throw base::MachineError(base::text(doing, ": ", words_of(status)));
}

MpiGroup::MpiGroup(MPI_Comm comm, std::size_t chunk_bytes, std::shared_ptr<Steps> steps)
    : comm_(comm), chunk_bytes_(chunk_bytes), steps_(std::move(steps)) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  check_mpi(MPI_Comm_rank(comm_, &process_), "MPI_Comm_rank");
  void* largest = nullptr;
  int is_set = 0;
  check_mpi(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest, &is_set), "MPI_Comm_get_attr");
  if (is_set == 0) throw base::MachineError("MPI_Comm_get_attr: MPI does not tell its largest tag");
  largest_tag_ = *static_cast<const int*>(largest);
}

MpiGroup::~MpiGroup() {
  int is_over = 0;
  if (MPI_Finalized(&is_over) == MPI_SUCCESS && is_over == 0) MPI_Comm_free(&comm_);
}

int MpiGroup::next_tag() {
  const int tag = tag_;
  tag_ = tag == largest_tag_ ? 0 : tag + 1;
  return tag;
}

Transfer::~Transfer() {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (std::size_t i = done_; i < requests_.size(); ++i) {
    if (i < expected_.size()) MPI_Cancel(&requests_[i]);
    int done = 0;
    while (MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0) {
      if (std::chrono::steady_clock::now() < end) continue;
      MPI_Request_free(&requests_[i]);
      break;
    }
  }
}

template <class Post>
void Transfer::in_chunks(std::int64_t bytes, const char* doing, Post&& post) {
  const auto chunk = static_cast<std::int64_t>(group_->chunk_bytes());
  for (std::int64_t done = 0; done < bytes; done += chunk) {
    const auto size = static_cast<int>(std::min(chunk, bytes - done));
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(post(done, size, &request), doing);
    requests_.push_back(request);
  }
}

void Transfer::receive(const Part<char>& part) {
  in_chunks(part.bytes, "MPI_Irecv", [&](std::int64_t done, int size, MPI_Request* request) {
    expected_.push_back({part.process, size});
    return MPI_Irecv(part.data + done, size, MPI_BYTE, part.process, tag_, group_->comm(), request);
  });
}

void Transfer::send(const Part<const char>& part) {
  in_chunks(part.bytes, "MPI_Isend", [&](std::int64_t done, int size, MPI_Request* request) {
    return MPI_Isend(part.data + done, size, MPI_BYTE, part.process, tag_, group_->comm(), request);
  });
}

/// One after the other, to the last: MPI_Waitall gives up at the first error and leaves requests
/// that still write into memory of ours.
bool Transfer::advance(bool may_wait) {
  for (; done_ < requests_.size(); ++done_) {
    MPI_Status status;
    int is_complete = 1;
    const int result = may_wait ? MPI_Wait(&requests_[done_], &status)
                                : MPI_Test(&requests_[done_], &is_complete, &status);
    if (result == MPI_SUCCESS && is_complete == 0) return false;
    if (!problem_.empty()) continue;
    if (result != MPI_SUCCESS) problem_ = "MPI_Wait: " + words_of(result);
    if (result == MPI_SUCCESS && done_ < expected_.size()) problem_ = short_message(done_, status);
  }
  if (!problem_.empty()) throw base::MachineError(problem_);
  return true;
}

/// Empty if as many bytes came as were expected.
std::string Transfer::short_message(std::size_t i, const MPI_Status& status) const {
  int bytes = 0;
  check_mpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes == expected_[i].bytes) return {};
  return base::text("process ", expected_[i].process, " sent ", bytes, " bytes, expected ",
                    expected_[i].bytes);
}

bool Transfer::is_done() {
  return advance(false);
}

void Transfer::finish() {
  while (!advance(group_->steps()->empty())) group_->steps()->try_all();
}

AllReduce::AllReduce(const std::shared_ptr<MpiGroup>& group, void* data, std::int64_t count,
                     base::DType dtype, Op op)
    : group_(group),
      data_(static_cast<char*>(data)),
      count_(count),
      dtype_(dtype),
      op_(op),
      there_(group, group->next_tag()),
      back_(group, group->next_tag()) {
  const auto mine = extent(group_->process());
  received_.resize(static_cast<std::size_t>(group_->size() * mine));
  for (int p = 0; p < group_->size(); ++p) {
    if (p != group_->process()) there_.receive({p, received_.data() + p * mine, mine});
  }
  for (int p = 0; p < group_->size(); ++p) {
    if (p != group_->process()) there_.send({p, data_ + first(p), extent(p)});
  }
  group_->steps()->add(*this);
}

AllReduce::~AllReduce() {
  group_->steps()->remove(*this);
}

/// The first byte of the part that a process reduces.
std::int64_t AllReduce::first(int process) const {
  const auto each = (count_ + group_->size() - 1) / group_->size();
  return std::min(process * each, count_) * static_cast<std::int64_t>(base::size_of(dtype_));
}

void AllReduce::reduce() {
  const int own = group_->process();
  const auto mine = extent(own);
  std::vector<const void*> parts;
  for (int p = 0; p < group_->size(); ++p) {
    parts.push_back(p == own ? data_ + first(p) : received_.data() + p * mine);
  }
  // The place of the own part is free: that part is read from `data`.
  auto* reduced = received_.data() + own * mine;
  const auto elements = mine / static_cast<std::int64_t>(base::size_of(dtype_));
  reduce_parts(own == 0 ? data_ : reduced, parts, elements, dtype_, op_);
  if (own != 0 && mine > 0) {
    std::memcpy(data_ + first(own), reduced, static_cast<std::size_t>(mine));
  }
  is_reduced_ = true;
  for (int p = 0; p < group_->size(); ++p) {
    if (p != own) back_.receive({p, data_ + first(p), extent(p)});
  }
  for (int p = 0; p < group_->size(); ++p) {
    if (p != own) back_.send({p, data_ + first(own), mine});
  }
}

bool AllReduce::try_step() noexcept {
  try {
    if (!there_.is_done()) return false;
    reduce();
  } catch (...) {  // thrown by finish()
    failure_ = std::current_exception();
  }
  return true;
}

void AllReduce::finish() {
  group_->steps()->remove(*this);
  if (failure_) std::rethrow_exception(failure_);
  if (!is_reduced_) {
    there_.finish();
    reduce();
  }
  back_.finish();
}

}  // namespace dfmoa::comm
