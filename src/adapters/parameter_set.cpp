#include "src/adapters/parameter_set.h"

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::adapters {
namespace {

constexpr std::int64_t kAlignment = 64;  // bytes: a cache line

}  // namespace

std::vector<std::int64_t> flat_offsets(const std::vector<ParameterSpec>& specs,
                                       std::int64_t element_bytes) {
  const auto step = kAlignment / element_bytes;
  std::vector<std::int64_t> offsets{0};
  for (const auto& spec : specs) {
    const auto elements = base::count_of(spec.shape);
    offsets.push_back(offsets.back() + (elements + step - 1) / step * step);
  }
  return offsets;
}

ParameterSet::ParameterSet(std::vector<ParameterSpec> specs, at::TensorOptions options)
    : specs_(std::move(specs)) {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (i > 0 && specs_[i].group < specs_[i - 1].group) {
      throw base::ShapeError("parameter " + specs_[i].name + ": specs must be ordered by group");
    }
  }
  offsets_ = flat_offsets(specs_, static_cast<std::int64_t>(options.dtype().itemsize()));
  const auto end = offsets_.back();
  value_ = at::zeros({end}, options);
  gradient_ = at::zeros({end}, options);
  moment1_ = at::zeros({end}, options);
  moment2_ = at::zeros({end}, options);
  make_leaves();
  for (std::size_t i = 0; i < specs_.size(); ++i) gradients_.push_back(view(gradient_, i));
}

ParameterSet ParameterSet::borrowed(std::vector<ParameterSpec> specs,
                                    std::vector<at::Tensor> leaves) {
  bool fits = leaves.size() == specs.size();
  for (std::size_t i = 0; fits && i < specs.size(); ++i) {
    fits = leaves[i].sizes() == specs[i].shape;
  }
  if (!fits) {
    throw base::ShapeError(base::text("borrowed parameters: ", leaves.size(), " leaves for ",
                                      specs.size(), " specs, expected one of its shape for each"));
  }
  ParameterSet set;
  set.specs_ = std::move(specs);
  set.leaves_ = std::move(leaves);
  return set;
}

void ParameterSet::make_leaves() {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    leaves_.push_back(view(value_, i).detach().requires_grad_());
  }
}

ParameterSet ParameterSet::on_host() const {
  ParameterSet host;
  if (specs_.empty()) return host;
  host.specs_ = specs_;
  host.offsets_ = offsets_;
  host.value_ = value_.to(at::kCPU);
  host.moment1_ = moment1_.to(at::kCPU);
  host.moment2_ = moment2_.to(at::kCPU);
  host.make_leaves();
  return host;
}

void ParameterSet::take(const ParameterSet& other) {
  if (specs_.empty()) return;
  const at::NoGradGuard no_grad;
  value_.copy_(other.value_);
  moment1_.copy_(other.moment1_);
  moment2_.copy_(other.moment2_);
}

at::Tensor ParameterSet::view(const at::Tensor& flat, std::size_t index) const {
  const auto& shape = specs_.at(index).shape;
  return flat.narrow(0, offsets_[index], base::count_of(shape)).view(shape);
}

std::size_t ParameterSet::index_of(const std::string& name) const {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].name == name) return i;
  }
  throw base::ShapeError("parameter " + name + " does not exist in this block");
}

std::vector<std::size_t> ParameterSet::indices_under(const std::string& folder) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const auto& name = specs_[i].name;
    if (name.starts_with(folder) && name.find('/', folder.size()) == std::string::npos) {
      found.push_back(i);
    }
  }
  return found;
}

const at::Tensor& ParameterSet::leaf(const std::string& name) const {
  return leaves_[index_of(name)];
}

void ParameterSet::accumulate(const std::vector<at::Tensor>& gradients) {
  if (gradients.size() != specs_.size()) {
    throw base::ShapeError("accumulate: expected one gradient per parameter");
  }
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) gradient(i).add_(gradients[i]);
  }
}

void ParameterSet::zero_gradient() {
  if (gradient_.defined()) gradient_.zero_();
}

ParameterSet::Flat ParameterSet::flat(ParameterGroup group) const {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].group < group) begin = offsets_[i + 1];
    if (specs_[i].group <= group) end = offsets_[i + 1];
  }
  if (!value_.defined()) return {};
  const auto cut = [&](const at::Tensor& tensor) { return tensor.narrow(0, begin, end - begin); };
  return {cut(value_), cut(gradient_), cut(moment1_), cut(moment2_)};
}

std::int64_t ParameterSet::count() const {
  std::int64_t total = 0;
  for (const auto& spec : specs_) total += base::count_of(spec.shape);
  return total;
}

}  // namespace dfmoa::adapters
