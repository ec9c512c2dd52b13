#include "src/adapters/mixture_linear.h"

#include <torch/csrc/autograd/custom_function.h>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/gate_scale.h"

namespace dfmoa::adapters {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// What backward needs beside the saved tensors. Held by the graph node through a capsule, so a
/// node keeps the frozen linears alive and nothing else.
struct Plan : torch::CustomClassHolder {
  std::vector<MixtureSite> sites;  // b_NF is not kept here: it is a saved tensor
};

ops::GateLayout layout_of(const MixtureGroup& group, const MixtureSite& site,
                          std::int64_t directions) {
  return {group.column_N.narrow(0, site.first, directions), group.row_T, group.row_begin,
          site.scale};
}

at::Tensor columns(const at::Tensor& matrix, std::int64_t first, std::int64_t count) {
  return matrix.defined() ? matrix.narrow(1, first, count) : at::Tensor();
}

/// Accumulates into `total`, which may still be undefined.
void add_to(at::Tensor& total, const at::Tensor& part) {
  if (!part.defined()) return;
  if (total.defined()) {
    total.add_(part);
  } else {
    total = part;
  }
}

/// The site's h, once for every expert that shares its rows of A.
at::Tensor hidden_of(const at::Tensor& h_TA, const MixtureSite& site) {
  const auto h = columns(h_TA, site.a_first(), site.a_rows());
  return site.sharers == 1 ? h : h.repeat({1, site.sharers});
}

/// What the sites of a group share of the gradients.
struct SharedGradients {
  at::Tensor dx_TD, dh_TN, dgate_TG, dz_ZN;
};

/// Adds the share of one adapted site; returns the gradient of its b.
at::Tensor backward_of_site(const MixtureGroup& group, const MixtureSite& site,
                            const at::Tensor& h_TN, const at::Tensor& dy_TF,
                            SharedGradients& total) {
  const auto directions = site.directions();
  if (directions == 0) return at::zeros_like(site.b_NF);
  const auto h = hidden_of(h_TN, site);
  const auto z = columns(group.z_ZN, site.first, directions);
  const auto layout = layout_of(group, site, directions);
  const auto q = at::mm(dy_TF, site.b_NF.t());
  const auto grads = ops::gate_scale_backward(q, h, group.gate_TG, z, layout);
  const auto dh = columns(total.dh_TN, site.a_first(), site.a_rows());
  dh.copy_(site.sharers == 1 ? grads.dh_TN
                             : grads.dh_TN.view({h.size(0), site.sharers, site.a_rows()}).sum(1));
  add_to(total.dgate_TG, grads.dgate_TG);
  if (z.defined()) columns(total.dz_ZN, site.first, directions).copy_(grads.dz_ZN);
  return at::mm(ops::gate_scale(h, group.gate_TG, z, layout).t(), dy_TF);
}

class MixtureFunction : public torch::autograd::Function<MixtureFunction> {
 public:
  // Tracked by autograd: x, a, gate and z where they exist, b of every adapted site. The sites hold
  // the same b again, with gaps for the sites that are not adapted.
  static variable_list forward(AutogradContext* context, const at::Tensor& x_TD,
                               const at::Tensor& a_ND, const std::optional<at::Tensor>& gate_TG,
                               const std::optional<at::Tensor>& z_ZN, const MixtureGroup& group,
                               const std::vector<MixtureSite>& sites, at::TensorList /*b*/) {
    const auto h_TN = at::mm(x_TD, a_ND.t());
    auto plan = c10::make_intrusive<Plan>();
    variable_list saved{x_TD,
                        h_TN,
                        a_ND,
                        gate_TG.value_or(at::Tensor()),
                        z_ZN.value_or(at::Tensor()),
                        group.column_N,
                        group.row_T,
                        group.row_begin};
    variable_list outputs;
    for (const auto& site : sites) {
      auto y_TF = site.base != nullptr
                      ? site.base->forward(x_TD)
                      : at::zeros({x_TD.size(0), site.b_NF.size(1)}, x_TD.options());
      const auto directions = site.directions();
      if (directions > 0) {
        const auto h = hidden_of(h_TN, site);
        const auto z = columns(saved[4], site.first, directions);
        y_TF.addmm_(ops::gate_scale(h, saved[3], z, layout_of(group, site, directions)), site.b_NF);
      }
      outputs.push_back(std::move(y_TF));
      saved.push_back(site.b_NF);
      plan->sites.push_back(site);
      plan->sites.back().b_NF = at::Tensor();
    }
    context->save_for_backward(std::move(saved));
    context->saved_data["plan"] = c10::IValue::make_capsule(std::move(plan));
    return outputs;
  }

  static variable_list backward(AutogradContext* context, const variable_list& dy) {
    const auto saved = context->get_saved_variables();
    const auto plan_value = context->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*plan_value);
    const auto& x_TD = saved[0];
    const auto& h_TN = saved[1];
    const MixtureGroup group{saved[2], saved[3], saved[4], saved[5], saved[6], saved[7]};
    const bool wants_x = context->needs_input_grad(0);
    SharedGradients total;
    total.dh_TN = at::zeros_like(h_TN);
    if (group.z_ZN.defined()) total.dz_ZN = at::zeros_like(group.z_ZN);
    variable_list db;
    for (std::size_t i = 0; i < plan.sites.size(); ++i) {
      auto site = plan.sites[i];
      site.b_NF = saved[8 + i];
      if (site.b_NF.defined()) db.emplace_back();
      if (!dy[i].defined()) continue;
      if (wants_x && site.base != nullptr) add_to(total.dx_TD, site.base->backward(dy[i]));
      if (site.b_NF.defined()) db.back() = backward_of_site(group, site, h_TN, dy[i], total);
    }
    if (wants_x && total.dx_TD.defined()) {
      total.dx_TD.addmm_(total.dh_TN, group.a_ND);
    } else if (wants_x) {
      total.dx_TD = at::mm(total.dh_TN, group.a_ND);
    }
    variable_list grads{total.dx_TD,    at::mm(total.dh_TN.t(), x_TD),
                        total.dgate_TG, total.dz_ZN,
                        at::Tensor(),   at::Tensor()};
    grads.insert(grads.end(), db.begin(), db.end());
    return grads;
  }
};

/// A frozen linear alone, with its gradient to x.
class FrozenFunction : public torch::autograd::Function<FrozenFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_TD,
                            const MixtureSite& site) {
    auto plan = c10::make_intrusive<Plan>();
    plan->sites.push_back(site);
    context->saved_data["plan"] = c10::IValue::make_capsule(std::move(plan));
    return site.base->forward(x_TD);
  }
  static variable_list backward(AutogradContext* context, const variable_list& dy) {
    const auto plan_value = context->saved_data["plan"].toCapsule();
    return {static_cast<const Plan&>(*plan_value).sites[0].base->backward(dy[0]), at::Tensor()};
  }
};

void check_shapes(const at::Tensor& x_TD, const MixtureGroup& group,
                  const std::vector<MixtureSite>& sites) {
  for (const auto& site : sites) {
    if (site.base == nullptr && !(group.a_ND.defined() && site.b_NF.defined())) {
      throw base::ShapeError("mixture_linear: a site has neither a base nor experts");
    }
    const auto in = site.base != nullptr ? site.base->in_features() : group.a_ND.size(1);
    if (x_TD.dim() != 2 || x_TD.size(1) != in) {
      throw base::ShapeError(
          base::text("mixture_linear: x is ", x_TD.sizes(), ", expected (T, ", in, ")"));
    }
    if (!site.b_NF.defined()) continue;
    const auto out = site.base != nullptr ? site.base->out_features() : site.b_NF.size(1);
    if (!group.a_ND.defined() || group.a_ND.size(0) < site.a_first() + site.a_rows() ||
        site.directions() % site.sharers != 0 || group.a_ND.size(1) != in ||
        site.b_NF.size(1) != out) {
      throw base::ShapeError(
          base::text("mixture_linear: b is ", site.b_NF.sizes(), " from direction ", site.first,
                     " of a ", group.a_ND.defined() ? base::text(group.a_ND.sizes()) : "(none)",
                     ", expected (N, ", out, ") inside (N of the group, ", in, ")"));
    }
  }
}

}  // namespace

std::vector<at::Tensor> mixture_linear(const at::Tensor& x_TD, const MixtureGroup& group,
                                       const std::vector<MixtureSite>& sites) {
  check_shapes(x_TD, group, sites);
  if (!group.a_ND.defined()) {
    std::vector<at::Tensor> outputs;
    for (const auto& site : sites) outputs.push_back(FrozenFunction::apply(x_TD, site));
    return outputs;
  }
  variable_list b;
  for (const auto& site : sites) {
    if (site.b_NF.defined()) b.push_back(site.b_NF);
  }
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
  };
  return MixtureFunction::apply(x_TD, group.a_ND, optional(group.gate_TG), optional(group.z_ZN),
                                group, sites, at::TensorList(b));
}

}  // namespace dfmoa::adapters
