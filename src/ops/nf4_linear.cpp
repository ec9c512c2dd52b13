#include "src/ops/nf4_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/nf4.h"

namespace dfmoa::ops {
namespace {

/// Weights of a task: 256 KiB of fp32, inside an L2.
constexpr std::int64_t kWeightsInCache = 64 * 1024;

template <class Out>
void few_rows_fill(const Nf4Blocks& weight, std::int64_t begin, std::int64_t end,
                   const at::Tensor& out) {
  kernels::nf4_dequantize(weight.codes.const_data_ptr<std::uint8_t>(),
                          weight.absmax.const_data_ptr<float>(), weight.block, begin, end,
                          static_cast<Out*>(out.data_ptr()), kernels::cpu_level());
}

void dequantize_panel(const Nf4Blocks& weight, std::int64_t begin, std::int64_t end,
                      const at::Tensor& out) {
  if (out.scalar_type() == at::kFloat) {
    few_rows_fill<float>(weight, begin, end, out);
  } else if (out.scalar_type() == at::kDouble) {
    few_rows_fill<double>(weight, begin, end, out);
  } else {
    few_rows_fill<std::uint16_t>(weight, begin, end, out);
  }
}

void check_blocks(const at::Tensor& x_TD, const Nf4Blocks& weight, std::int64_t out_features) {
  check_nf4(weight.codes, weight.absmax, weight.block, weight.count, x_TD.scalar_type());
  const bool fits = x_TD.dim() == 2 && x_TD.is_cpu() && weight.codes.is_cpu() &&
                    weight.skipped >= 0 &&
                    weight.skipped + out_features * x_TD.size(1) <= weight.count;
  if (fits) return;
  throw base::ShapeError(base::text("nf4_linear: x ", x_TD.sizes(), " on ", x_TD.device(), ", ",
                                    weight.count - weight.skipped, " weights on ",
                                    weight.codes.device(), ", expected (T, D) and ", out_features,
                                    " rows of D weights on the CPU"));
}

}  // namespace

at::Tensor nf4_linear(const at::Tensor& x_TD, const Nf4Blocks& weight, const at::Tensor& bias_F,
                      std::int64_t out_features) {
  check_blocks(x_TD, weight, out_features);
  const auto x = x_TD.detach();  // the threads below would record a graph
  const auto in_features = x.size(1);
  auto y_TF = at::empty({x.size(0), out_features}, x.options());
  const auto rows =
      std::max<std::int64_t>(kWeightsInCache / std::max<std::int64_t>(in_features, 1), 1);
  const auto panels = (out_features + rows - 1) / rows;
  at::parallel_for(0, panels, 1, [&](std::int64_t first, std::int64_t last) {
    const auto buffer = at::empty({rows * in_features + weight.block}, x.options());
    for (auto panel = first; panel < last; ++panel) {
      const auto row = panel * rows;
      const auto count = std::min(rows, out_features - row);
      const auto begin = weight.skipped + row * in_features;
      const auto from = begin / weight.block * weight.block;
      dequantize_panel(weight, from, begin + count * in_features, buffer);
      const auto panel_FD =
          buffer.narrow(0, begin - from, count * in_features).view({count, in_features});
      auto y = y_TF.narrow(1, row, count);
      if (bias_F.defined()) {
        at::addmm_out(y, bias_F.narrow(0, row, count), x, panel_FD.t());
      } else {
        at::mm_out(y, x, panel_FD.t());
      }
    }
  });
  return y_TF;
}

}  // namespace dfmoa::ops
