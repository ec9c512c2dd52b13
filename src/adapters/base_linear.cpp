#include "src/adapters/base_linear.h"

#include <algorithm>

#include "src/ops/nf4.h"
#include "src/ops/nf4_linear.h"

namespace dfmoa::adapters {
namespace {

at::Tensor apply(const at::Tensor& x_TD, const at::Tensor& weight_FD, const at::Tensor& bias_F) {
  return bias_F.defined() ? at::addmm(bias_F, x_TD, weight_FD.t()) : at::mm(x_TD, weight_FD.t());
}

at::Tensor rows_of(const at::Tensor& tensor, std::int64_t first, std::int64_t count) {
  return tensor.defined() ? tensor.narrow(0, first, count) : tensor;
}

at::Tensor placed(const at::Tensor& tensor, at::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}

class DenseLinear final : public BaseLinear {
 public:
  DenseLinear(at::Tensor weight_FD, at::Tensor bias_F)
      : BaseLinear(weight_FD.size(1), weight_FD.size(0)),
        weight_FD_(std::move(weight_FD)),
        bias_F_(std::move(bias_F)) {}
  at::Tensor forward(const at::Tensor& x_TD) const override {
    return apply(x_TD, weight_FD_, bias_F_);
  }
  at::Tensor backward(const at::Tensor& dy_TF) const override { return at::mm(dy_TF, weight_FD_); }
  std::shared_ptr<const BaseLinear> rows(std::int64_t first, std::int64_t count) const override {
    return std::make_shared<DenseLinear>(weight_FD_.narrow(0, first, count),
                                         rows_of(bias_F_, first, count));
  }
  std::shared_ptr<const BaseLinear> to(at::Device device) const override {
    return std::make_shared<DenseLinear>(weight_FD_.to(device), placed(bias_F_, device));
  }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(weight_FD_.nbytes() +
                                     (bias_F_.defined() ? bias_F_.nbytes() : 0));
  }

 private:
  at::Tensor weight_FD_;
  at::Tensor bias_F_;
};

class Nf4Linear final : public BaseLinear {
 public:
  Nf4Linear(ops::Nf4Blocks blocks, std::int64_t out_features, std::int64_t in_features,
            at::Tensor bias_F)
      : BaseLinear(in_features, out_features),
        blocks_(std::move(blocks)),
        bias_F_(std::move(bias_F)) {}
  at::Tensor forward(const at::Tensor& x_TD) const override {
    if (!x_TD.is_cpu() || x_TD.size(0) > ops::kNf4FewRows) {
      return apply(x_TD, weight(x_TD.scalar_type()), bias_F_);
    }
    return ops::nf4_linear(x_TD, blocks_, bias_F_, out_features());
  }
  at::Tensor backward(const at::Tensor& dy_TF) const override {
    return at::mm(dy_TF, weight(dy_TF.scalar_type()));
  }
  std::shared_ptr<const BaseLinear> rows(std::int64_t first, std::int64_t count) const override {
    const auto block = blocks_.block;  // even, so that no byte holds codes of two blocks
    const auto begin = blocks_.skipped + first * in_features();
    const auto end = begin + count * in_features();
    const auto from = begin / block * block;
    const auto to = std::min((end + block - 1) / block * block, blocks_.count);
    ops::Nf4Blocks slice{blocks_.codes.narrow(0, from / 2, (to - from + 1) / 2),
                         blocks_.absmax.narrow(0, from / block, (to - from + block - 1) / block),
                         block, begin - from, to - from};
    return std::make_shared<Nf4Linear>(std::move(slice), count, in_features(),
                                       rows_of(bias_F_, first, count));
  }
  std::shared_ptr<const BaseLinear> to(at::Device device) const override {
    auto there = blocks_;
    there.codes = there.codes.to(device);
    there.absmax = there.absmax.to(device);
    return std::make_shared<Nf4Linear>(std::move(there), out_features(), in_features(),
                                       placed(bias_F_, device));
  }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(blocks_.codes.nbytes() + blocks_.absmax.nbytes() +
                                     (bias_F_.defined() ? bias_F_.nbytes() : 0));
  }

 private:
  at::Tensor weight(at::ScalarType dtype) const {
    const auto flat =
        ops::nf4_dequantize(blocks_.codes, blocks_.absmax, blocks_.block, {blocks_.count}, dtype);
    return flat.narrow(0, blocks_.skipped, out_features() * in_features())
        .view({out_features(), in_features()});
  }

  ops::Nf4Blocks blocks_;
  at::Tensor bias_F_;
};

}  // namespace

std::shared_ptr<const BaseLinear> dense_linear(at::Tensor weight_FD, at::Tensor bias_F) {
  return std::make_shared<DenseLinear>(std::move(weight_FD), std::move(bias_F));
}

std::shared_ptr<const BaseLinear> nf4_linear(at::Tensor codes, at::Tensor absmax,
                                             std::int64_t block, std::int64_t out_features,
                                             std::int64_t in_features, at::Tensor bias_F) {
  ops::Nf4Blocks blocks{std::move(codes), std::move(absmax), block, 0, out_features * in_features};
  return std::make_shared<Nf4Linear>(std::move(blocks), out_features, in_features,
                                     std::move(bias_F));
}

}  // namespace dfmoa::adapters
