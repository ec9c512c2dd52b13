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
  bool gated = false;
  bool ranked = false;
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

class MixtureFunction : public torch::autograd::Function<MixtureFunction> {
 public:
  // Arguments: x, a, gate, z, column, row, row_begin, b of every adapted site.
  static variable_list forward(AutogradContext* context, const at::Tensor& x_TD,
                               const at::Tensor& a_ND, const at::Tensor& gate_TG,
                               const at::Tensor& z_ZN, const MixtureGroup& group,
                               const std::vector<MixtureSite>& sites, const variable_list& b) {
    const auto h_TN = at::mm(x_TD, a_ND.t());
    auto plan = c10::make_intrusive<Plan>();
    plan->gated = gate_TG.defined();
    plan->ranked = z_ZN.defined();
    variable_list outputs;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      auto y_TF = sites[i].base->forward(x_TD);
      const auto directions = b[i].defined() ? b[i].size(0) : 0;
      if (directions > 0) {
        const auto h = columns(h_TN, sites[i].first, directions);
        const auto z = columns(z_ZN, sites[i].first, directions);
        y_TF.addmm_(ops::gate_scale(h, gate_TG, z, layout_of(group, sites[i], directions)), b[i]);
      }
      outputs.push_back(std::move(y_TF));
      plan->sites.push_back({sites[i].base, at::Tensor(), sites[i].first, sites[i].scale});
    }
    variable_list saved{x_TD, h_TN,           a_ND,        gate_TG,
                        z_ZN, group.column_N, group.row_T, group.row_begin};
    saved.insert(saved.end(), b.begin(), b.end());
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
    const auto& gate_TG = saved[3];
    const auto& z_ZN = saved[4];
    MixtureGroup group;
    group.column_N = saved[5];
    group.row_T = saved[6];
    group.row_begin = saved[7];

    const bool wants_x = context->needs_input_grad(0);
    at::Tensor dx_TD;
    at::Tensor dgate_TG;
    auto dz_ZN = plan.ranked ? at::zeros_like(z_ZN) : at::Tensor();
    auto dh_TN = at::zeros_like(h_TN);
    variable_list db;
    for (std::size_t i = 0; i < plan.sites.size(); ++i) {
      const auto& site = plan.sites[i];
      const auto& b_NF = saved[8 + i];
      db.emplace_back();
      if (!dy[i].defined()) continue;
      if (wants_x) add_to(dx_TD, site.base->backward(dy[i]));
      if (!b_NF.defined()) continue;
      const auto directions = b_NF.size(0);
      if (directions == 0) {
        db.back() = at::zeros_like(b_NF);
        continue;
      }
      const auto h = columns(h_TN, site.first, directions);
      const auto z = columns(z_ZN, site.first, directions);
      const auto layout = layout_of(group, site, directions);
      db.back() = at::mm(ops::gate_scale(h, gate_TG, z, layout).t(), dy[i]);
      auto grads = ops::gate_scale_backward(at::mm(dy[i], b_NF.t()), h, gate_TG, z, layout);
      columns(dh_TN, site.first, directions).copy_(grads.dh_TN);
      add_to(dgate_TG, grads.dgate_TG);
      if (plan.ranked) columns(dz_ZN, site.first, directions).copy_(grads.dz_ZN);
    }
    if (wants_x) {
      if (dx_TD.defined()) {
        dx_TD.addmm_(dh_TN, saved[2]);
      } else {
        dx_TD = at::mm(dh_TN, saved[2]);
      }
    }
    variable_list grads{dx_TD,       at::mm(dh_TN.t(), x_TD), dgate_TG, dz_ZN, at::Tensor(),
                        at::Tensor()};
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
    if (x_TD.dim() != 2 || x_TD.size(1) != site.base->in_features()) {
      throw base::ShapeError(base::text("mixture_linear: x is ", x_TD.sizes(), ", expected (T, ",
                                        site.base->in_features(), ")"));
    }
    if (!site.b_NF.defined()) continue;
    if (!group.a_ND.defined() || group.a_ND.size(0) < site.first + site.directions() ||
        group.a_ND.size(1) != site.base->in_features() ||
        site.b_NF.size(1) != site.base->out_features()) {
      throw base::ShapeError(base::text(
          "mixture_linear: b is ", site.b_NF.sizes(), " from direction ", site.first, " of a ",
          group.a_ND.defined() ? base::text(group.a_ND.sizes()) : "(none)", ", expected (N, ",
          site.base->out_features(), ") inside (N of the group, ", site.base->in_features(), ")"));
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
  for (const auto& site : sites) b.push_back(site.b_NF);
  return MixtureFunction::apply(x_TD, group.a_ND, group.gate_TG, group.z_ZN, group, sites, b);
}

}  // namespace dfmoa::adapters
