#include "src/model/attention.h"

#include "src/ops/attention.h"

namespace dfmoa::model {
namespace {

void append(DecodeCache::Sequence& cache, const at::Tensor& k_LKC, const at::Tensor& v_LKC) {
  const auto length = cache.length + k_LKC.size(0);
  const auto capacity = cache.k_LKC.defined() ? cache.k_LKC.size(0) : 0;
  if (length > capacity) {  // grow by doubling: appending stays linear
    auto shape = k_LKC.sizes().vec();
    shape[0] = std::max(length, 2 * capacity);
    auto k = at::empty(shape, k_LKC.options());
    auto v = at::empty(shape, v_LKC.options());
    if (cache.length > 0) {
      k.narrow(0, 0, cache.length).copy_(cache.k_LKC.narrow(0, 0, cache.length));
      v.narrow(0, 0, cache.length).copy_(cache.v_LKC.narrow(0, 0, cache.length));
    }
    cache.k_LKC = k;
    cache.v_LKC = v;
  }
  cache.k_LKC.narrow(0, cache.length, k_LKC.size(0)).copy_(k_LKC);
  cache.v_LKC.narrow(0, cache.length, v_LKC.size(0)).copy_(v_LKC);
  cache.length = length;
}

}  // namespace

at::Tensor cached_attention(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                            const at::Tensor& v_TKC, const std::vector<std::int64_t>& begin,
                            std::vector<DecodeCache::Sequence>& cache) {
  std::vector<at::Tensor> outputs;
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) {
    const auto rows = begin[d + 1] - begin[d];
    if (rows == 0) continue;
    auto& sequence = cache[d];
    append(sequence, k_TKC.narrow(0, begin[d], rows), v_TKC.narrow(0, begin[d], rows));
    outputs.push_back(ops::attend(q_THC.narrow(0, begin[d], rows),
                                  sequence.k_LKC.narrow(0, 0, sequence.length),
                                  sequence.v_LKC.narrow(0, 0, sequence.length)));
  }
  if (outputs.empty()) return q_THC.reshape({0, q_THC.size(1) * q_THC.size(2)});
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

}  // namespace dfmoa::model
