#include "src/adapters/base_linear.h"

#include "src/ops/nf4.h"

namespace dfmoa::adapters {
namespace {

at::Tensor apply(const at::Tensor& x_TD, const at::Tensor& weight_FD, const at::Tensor& bias_F) {
  return bias_F.defined() ? at::addmm(bias_F, x_TD, weight_FD.t()) : at::mm(x_TD, weight_FD.t());
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
  Nf4Linear(at::Tensor codes, at::Tensor absmax, std::int64_t block, std::int64_t out_features,
            std::int64_t in_features, at::Tensor bias_F)
      : BaseLinear(in_features, out_features),
        codes_(std::move(codes)),
        absmax_(std::move(absmax)),
        block_(block),
        bias_F_(std::move(bias_F)) {}
  at::Tensor forward(const at::Tensor& x_TD) const override {
    return apply(x_TD, weight(x_TD.scalar_type()), bias_F_);
  }
  at::Tensor backward(const at::Tensor& dy_TF) const override {
    return at::mm(dy_TF, weight(dy_TF.scalar_type()));
  }
  std::shared_ptr<const BaseLinear> to(at::Device device) const override {
    return std::make_shared<Nf4Linear>(codes_.to(device), absmax_.to(device), block_,
                                       out_features(), in_features(), placed(bias_F_, device));
  }
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(codes_.nbytes() + absmax_.nbytes() +
                                     (bias_F_.defined() ? bias_F_.nbytes() : 0));
  }

 private:
  at::Tensor weight(at::ScalarType dtype) const {
    return ops::nf4_dequantize(codes_, absmax_, block_, {out_features(), in_features()}, dtype);
  }

  at::Tensor codes_;
  at::Tensor absmax_;
  std::int64_t block_;
  at::Tensor bias_F_;
};

}  // namespace

std::shared_ptr<const BaseLinear> dense_linear(at::Tensor weight_FD, at::Tensor bias_F) {
  return std::make_shared<DenseLinear>(std::move(weight_FD), std::move(bias_F));
}

std::shared_ptr<const BaseLinear> nf4_linear(at::Tensor codes, at::Tensor absmax,
                                             std::int64_t block, std::int64_t out_features,
                                             std::int64_t in_features, at::Tensor bias_F) {
  return std::make_shared<Nf4Linear>(std::move(codes), std::move(absmax), block, out_features,
                                     in_features, std::move(bias_F));
}

}  // namespace dfmoa::adapters
