#include "src/ops/head_gates.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Most tokens of a panel. A constant: the order of summation must not follow the threads.
constexpr std::int64_t kPanelTokens = 64;
/// Fewer elements than this are not worth another thread.
constexpr std::int64_t kElementsPerTask = 32768;

/// Successive tokens that read one row of z; what they add to dz is summed apart.
struct Panel {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t row;
};

at::Tensor contiguous_heads(const at::Tensor& x_THC) {
  const auto heads = x_THC.size(1);
  const auto channels = x_THC.size(2);
  const bool in_place =
      (channels == 1 || x_THC.stride(2) == 1) && (heads == 1 || x_THC.stride(1) == channels);
  return in_place ? x_THC : x_THC.contiguous();
}

/// One call in plain memory: gates that are missing are 1.
template <class Real>
class GatedHeads {
 public:
  GatedHeads(const at::Tensor& x_THC, const at::Tensor& z_ZHC, const at::Tensor& row_T,
             const at::Tensor& gate_TH)
      : tokens_(x_THC.size(0)),
        heads_(x_THC.size(1)),
        channels_(x_THC.size(2)),
        x_THC_(contiguous_heads(x_THC)),
        z_ZHC_(z_ZHC.defined() ? z_ZHC.contiguous()
                               : at::ones({1, heads_, channels_}, x_THC.options())),
        gate_TH_(gate_TH.defined() ? gate_TH.contiguous()
                                   : at::ones({tokens_, heads_}, x_THC.options())) {
    if (z_ZHC.defined() && row_T.defined()) row_T_ = row_T.contiguous();
    if (row_T_.defined()) row_ = row_T_.template const_data_ptr<std::int32_t>();
    x_ = x_THC_.template const_data_ptr<Real>();
    z_ = z_ZHC_.template const_data_ptr<Real>();
    gate_ = gate_TH_.template const_data_ptr<Real>();
  }

  [[nodiscard]] std::int64_t width() const { return heads_ * channels_; }
  [[nodiscard]] std::int64_t row(std::int64_t t) const { return row_ == nullptr ? 0 : row_[t]; }

  void forward(std::int64_t begin, std::int64_t end, Real* y) const {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t h = 0; h < heads_; ++h) {
        const Real* __restrict__ x = x_of(t, h);
        const Real* __restrict__ z = z_of(t, h);
        const Real gate = gate_[t * heads_ + h];
        Real* __restrict__ out = y + t * width() + h * channels_;
        for (std::int64_t c = 0; c < channels_; ++c) out[c] = x[c] * z[c] * gate;
      }
    }
  }

  /// Gradients of the tokens of a panel; those that are null are not wanted. dz (H, C) is added to.
  void backward(const Panel& panel, const Real* dy, Real* dx, Real* dz, Real* dgate) const {
    for (std::int64_t t = panel.begin; t < panel.end; ++t) {
      for (std::int64_t h = 0; h < heads_; ++h) {
        const auto first = h * channels_;
        const Real* dout = dy + t * width() + first;
        const Real gate = gate_[t * heads_ + h];
        if (dgate != nullptr) dgate[t * heads_ + h] = triple(dout, x_of(t, h), z_of(t, h));
        if (dz != nullptr) add_products(dout, gate, x_of(t, h), dz + first);
        if (dx != nullptr) products(dout, gate, z_of(t, h), dx + t * width() + first);
      }
    }
  }

  [[nodiscard]] std::vector<Panel> panels() const {
    std::vector<Panel> all;
    for (std::int64_t t = 0; t < tokens_; ++t) {
      if (all.empty() || all.back().row != row(t) || t - all.back().begin == kPanelTokens) {
        all.push_back({t, t, row(t)});
      }
      all.back().end = t + 1;
    }
    return all;
  }

 private:
  [[nodiscard]] const Real* x_of(std::int64_t t, std::int64_t h) const {
    return x_ + t * x_THC_.stride(0) + h * channels_;
  }
  [[nodiscard]] const Real* z_of(std::int64_t t, std::int64_t h) const {
    return z_ + row(t) * width() + h * channels_;
  }

  /// Sum of dout * (x * z), in lanes: a compiler must not reorder one sum.
  [[nodiscard]] Real triple(const Real* dout, const Real* x, const Real* z) const {
    constexpr std::int64_t kLanes = 16;
    std::array<Real, kLanes> lanes{};
    std::int64_t c = 0;
    for (; c + kLanes <= channels_; c += kLanes) {
      for (std::int64_t i = 0; i < kLanes; ++i) {
        lanes[static_cast<std::size_t>(i)] += dout[c + i] * (x[c + i] * z[c + i]);
      }
    }
    Real sum = 0;
    for (; c < channels_; ++c) sum += dout[c] * (x[c] * z[c]);
    for (const auto lane : lanes) sum += lane;
    return sum;
  }

  void products(const Real* __restrict__ dout, Real gate, const Real* __restrict__ z,
                Real* __restrict__ dx) const {
    for (std::int64_t c = 0; c < channels_; ++c) dx[c] = dout[c] * gate * z[c];
  }

  void add_products(const Real* __restrict__ dout, Real gate, const Real* __restrict__ x,
                    Real* __restrict__ dz) const {
    for (std::int64_t c = 0; c < channels_; ++c) dz[c] += dout[c] * gate * x[c];
  }

  std::int64_t tokens_, heads_, channels_;
  at::Tensor x_THC_, z_ZHC_, row_T_, gate_TH_;
  const Real* x_ = nullptr;
  const Real* z_ = nullptr;
  const std::int32_t* row_ = nullptr;
  const Real* gate_ = nullptr;
};

std::int64_t tasks_grain(std::int64_t elements) {
  return std::max<std::int64_t>(1, kElementsPerTask / std::max<std::int64_t>(elements, 1));
}

at::Tensor forward_on_cpu(const at::Tensor& x_THC, const at::Tensor& z_ZHC, const at::Tensor& row_T,
                          const at::Tensor& gate_TH) {
  auto y_THC = at::empty(x_THC.sizes(), x_THC.options());
  AT_DISPATCH_FLOATING_TYPES(x_THC.scalar_type(), "head_gates", [&] {
    const GatedHeads<scalar_t> call(x_THC, z_ZHC, row_T, gate_TH);
    auto* y = y_THC.data_ptr<scalar_t>();
    at::parallel_for(0, x_THC.size(0), tasks_grain(call.width()),
                     [&](std::int64_t begin, std::int64_t end) { call.forward(begin, end, y); });
  });
  return y_THC;
}

/// Sums of panels -> dz (Z, H * C), panel after panel.
template <class Real>
void sum_panels(const std::vector<Panel>& panels, std::int64_t width, const Real* sums, Real* dz) {
  const auto count = static_cast<std::int64_t>(panels.size());
  at::parallel_for(0, width, tasks_grain(count), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = 0; p < count; ++p) {
      const Real* from = sums + p * width;
      Real* to = dz + panels[static_cast<std::size_t>(p)].row * width;
      for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

/// Gradients to x, z and gate, of which only the wanted ones are computed.
struct Wanted {
  bool x, z, gate;
};

variable_list backward_on_cpu(const at::Tensor& dy_THC, const variable_list& saved,
                              const Wanted& wanted) {
  const auto& x_THC = saved[0];
  at::Tensor dx_THC, dz_ZHC, dgate_TH, sums_PHC;
  if (wanted.x) dx_THC = at::empty(x_THC.sizes(), x_THC.options());
  if (wanted.z) dz_ZHC = at::zeros(saved[1].sizes(), x_THC.options());
  if (wanted.gate) dgate_TH = at::empty(saved[3].sizes(), x_THC.options());
  AT_DISPATCH_FLOATING_TYPES(x_THC.scalar_type(), "head_gates_backward", [&] {
    const GatedHeads<scalar_t> call(x_THC, saved[1], saved[2], saved[3]);
    const auto data = [](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.data_ptr<scalar_t>() : nullptr;
    };
    const auto panels = call.panels();
    const auto width = call.width();
    const auto count = static_cast<std::int64_t>(panels.size());
    if (wanted.z) sums_PHC = at::empty({count, width}, x_THC.options());
    auto* const dx = data(dx_THC);
    auto* const sums = data(sums_PHC);
    auto* const dgate = data(dgate_TH);
    const auto* dy = dy_THC.const_data_ptr<scalar_t>();
    const auto elements = x_THC.numel() / std::max<std::int64_t>(count, 1);
    at::parallel_for(0, count, tasks_grain(elements), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        auto* const dz = sums == nullptr ? nullptr : sums + p * width;
        if (dz != nullptr) std::fill_n(dz, width, scalar_t(0));
        call.backward(panels[static_cast<std::size_t>(p)], dy, dx, dz, dgate);
      }
    });
    if (wanted.z) sum_panels(panels, width, sums, dz_ZHC.data_ptr<scalar_t>());
  });
  return {dx_THC, dz_ZHC, at::Tensor(), dgate_TH};
}

class HeadGates : public torch::autograd::Function<HeadGates> {
 public:
  // Optional, because autograd takes no undefined tensor.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_THC,
                            const std::optional<at::Tensor>& z_ZHC,
                            const std::optional<at::Tensor>& row_T,
                            const std::optional<at::Tensor>& gate_TH) {
    const variable_list saved{x_THC, z_ZHC.value_or(at::Tensor()), row_T.value_or(at::Tensor()),
                              gate_TH.value_or(at::Tensor())};
    context->save_for_backward(saved);
    return forward_on_cpu(x_THC, saved[1], saved[2], saved[3]);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto asks = [&](std::size_t i) { return saved[i].defined() && saved[i].requires_grad(); };
    return backward_on_cpu(grads[0].contiguous(), saved,
                           {context->needs_input_grad(0), asks(1), asks(3)});
  }
};

void require(bool holds, const char* name, const at::Tensor& tensor, const std::string& expected) {
  if (holds) return;
  throw base::ShapeError(base::text("head_gates: ", name, " is ", tensor.sizes(), " ",
                                    tensor.scalar_type(), " on ", tensor.device(), ", expected ",
                                    expected));
}

void check_arguments(const at::Tensor& x, const at::Tensor& z, const at::Tensor& row,
                     const at::Tensor& gate) {
  require(x.dim() == 3, "x", x, "(T, H, C)");
  const auto beside = [&](const at::Tensor& other, at::ScalarType type) {
    return other.device() == x.device() && other.scalar_type() == type;
  };
  const auto like_x = base::text(" ", x.scalar_type(), " on ", x.device());
  if (gate.defined()) {
    require(gate.sizes() == x.sizes().slice(0, 2) && beside(gate, x.scalar_type()), "gate", gate,
            base::text("(", x.size(0), ", ", x.size(1), ")", like_x));
  }
  if (!z.defined()) return;
  require(z.dim() == 3 && z.sizes().slice(1) == x.sizes().slice(1) && beside(z, x.scalar_type()),
          "z", z, base::text("(Z, ", x.size(1), ", ", x.size(2), ")", like_x));
  if (!row.defined()) {
    require(z.size(0) == 1, "z", z, "one row where tokens name none");
    return;
  }
  require(row.dim() == 1 && row.size(0) == x.size(0) && beside(row, at::kInt), "row", row,
          base::text("(", x.size(0), ") Int on ", x.device()));
  if (!x.is_cpu()) return;
  const auto rows = row.accessor<std::int32_t, 1>();
  for (std::int64_t t = 0; t < rows.size(0); ++t) {
    if (rows[t] >= 0 && rows[t] < z.size(0)) continue;
    throw base::ShapeError(base::text("head_gates: token ", t, " reads row ", rows[t],
                                      " of z, expected one of ", z.size(0)));
  }
}

}  // namespace

at::Tensor head_gates(const at::Tensor& x_THC, const at::Tensor& z_ZHC, const at::Tensor& row_T,
                      const at::Tensor& gate_TH) {
  if (!z_ZHC.defined() && !gate_TH.defined()) return x_THC;
  check_arguments(x_THC, z_ZHC, row_T, gate_TH);
  const auto type = x_THC.scalar_type();
  const bool in_one_pass = x_THC.is_cpu() && (type == at::kFloat || type == at::kDouble);
  if (!in_one_pass) return head_gates_plain(x_THC, z_ZHC, row_T, gate_TH);
  const auto optional_of = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional(tensor) : std::nullopt;
  };
  return HeadGates::apply(x_THC, optional_of(z_ZHC), optional_of(row_T), optional_of(gate_TH));
}

at::Tensor head_gates_plain(const at::Tensor& x_THC, const at::Tensor& z_ZHC,
                            const at::Tensor& row_T, const at::Tensor& gate_TH) {
  auto y_THC = x_THC;
  if (z_ZHC.defined()) {
    y_THC = y_THC * (row_T.defined() ? z_ZHC.index_select(0, row_T) : z_ZHC);
  }
  return gate_TH.defined() ? y_THC * gate_TH.unsqueeze(2) : y_THC;
}

}  // namespace dfmoa::ops
