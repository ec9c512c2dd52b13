// Small tensors with known values, their distances, and derivatives by central differences.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/random.h"

namespace dfmoa::tests {

/// Standard normal fp64 values that depend on the seed alone.
inline at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  auto tensor = at::empty(shape, at::kDouble);
  const base::KeyedRandom random(seed, {base::key_word("tests")});
  auto* out = tensor.data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    out[i] = random.normal(static_cast<std::uint64_t>(i));
  }
  return tensor;
}

inline at::Tensor normal_leaf(at::IntArrayRef shape, std::uint64_t seed) {
  return normal(shape, seed).requires_grad_();
}

inline at::Tensor reals(std::vector<double> values) {
  return torch::tensor(values, at::kDouble);
}

inline at::Tensor ints(std::vector<std::int32_t> values) {
  return torch::tensor(values, at::kInt);
}

/// Largest absolute difference; infinite where shapes or definedness differ, or a NaN is met.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() && !b.defined()) return 0;
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  if (a.numel() == 0) return 0;
  const auto worst = (a.detach().to(at::kDouble) - b.detach().to(at::kDouble)).abs().max();
  const auto value = worst.item<double>();
  return std::isnan(value) ? std::numeric_limits<double>::infinity() : value;
}

/// d <y, dy> / d inputs. Undefined for an input that y does not read.
inline std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& y,
                                         const std::vector<at::Tensor>& dy,
                                         const std::vector<at::Tensor>& inputs) {
  return torch::autograd::grad(y, inputs, dy, /*retain_graph=*/true, /*create_graph=*/false,
                               /*allow_unused=*/true);
}

/// d f / d leaf, element by element; the leaf is as before afterwards.
inline at::Tensor central_differences(const std::function<double()>& f, const at::Tensor& leaf,
                                      double step = 1e-5) {
  const at::NoGradGuard no_grad;
  auto slopes = at::zeros(leaf.sizes(), at::kDouble);
  auto flat = leaf.view({-1});
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    const double kept = flat[i].item<double>();
    flat[i] = kept + step;
    const double above = f();
    flat[i] = kept - step;
    const double below = f();
    flat[i] = kept;
    slopes.view({-1})[i] = (above - below) / (2 * step);
  }
  return slopes;
}

/// What `body` threw as an Expected; fails the test if it threw nothing.
template <class Expected, class Body>
std::string refusal(Body&& body) {
  try {
    body();
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

inline bool contains(std::string_view sentence, std::string_view part) {
  return sentence.find(part) != std::string_view::npos;
}

}  // namespace dfmoa::tests
