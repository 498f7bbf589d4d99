#include "src/checkpoint/prefix_file.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/export_files.hpp"

namespace fpdist::checkpoint {
namespace {

/// Of the one tensor.
std::vector<int64_t> shape_of_prefix(const arch::Model& model) {
  const auto parts = arch::prefix_parameters(model);
  int64_t columns = 0;
  for (const auto& [name, shape] : parts) columns += shape[1];
  return {model.adapter.prefix.all_tokens(), columns};
}

}  // namespace

bool is_one_tensor(const arch::Prefix& prefix) { return prefix.is_there() && prefix.context_dim == 0; }

void check_is_prefix_of(const arch::Model& model, const HfDirectory& adapter) {
  const std::string name = arch::kPromptEmbeddings;
  check<ModelFileError>(adapter.contains(name), adapter.path(), ": its weights hold no \"", name, "\": is it whole?");
  const std::vector<int64_t> there = adapter.shape(name), here = shape_of_prefix(model);
  check<ModelFileError>(there == here, adapter.path(), " is a prefix of another model: ", name, " is ",
                        at::IntArrayRef(there), " there and ", at::IntArrayRef(here), " here");
  const std::vector<std::string> others = adapter.names_besides({name, arch::kScoreWeight, arch::kScoreBias});
  check<ModelFileError>(others.empty(), adapter.path(), " is a prefix of another model: there is no place for its ",
                        others.empty() ? "" : others.front(), " here");
}

void read_prefix_into(const arch::Model& model, const HfDirectory& adapter, const std::string& parameter, int64_t begin,
                      at::Tensor& destination) {
  adapter.read_slice_into(arch::kPromptEmbeddings, shape_of_prefix(model), 1,
                          arch::prefix_column(model, parameter) + begin, destination);
}

namespace {

/// Keys and values of a prefix from its tensors, in the order of arch::prefix_parameters; all but the first two and the
/// third of one that is projected have a weight and a bias each.
at::Tensor joined(const std::vector<at::Tensor>& parts, bool is_projected) {
  if (!is_projected) return at::cat(parts, 1);
  const at::Tensor units = at::tanh(at::linear(parts[0], parts[1], parts[2]));
  std::vector<at::Tensor> made;
  for (size_t part = 3; part + 1 < parts.size(); part += 2)
    made.push_back(at::linear(units, parts[part], parts[part + 1]));
  return at::cat(made, 1);
}

/// Of the joined tensor.
TensorSpec joined_spec(std::span<const TensorSpec> parts, bool is_projected) {
  TensorSpec spec{arch::kPromptEmbeddings, parts.front().dtype, {parts.front().shape[0], 0}};
  for (size_t part = is_projected ? 3 : 0; part < parts.size(); part += is_projected ? 2 : 1)
    spec.shape[1] += parts[part].shape[is_projected ? 0 : 1];
  return spec;
}

}  // namespace

std::pair<std::vector<TensorSpec>, FetchTensor> as_in_adapter_file(std::vector<TensorSpec> specs, FetchTensor fetch) {
  const auto other =
      std::find_if(specs.begin(), specs.end(), [](const TensorSpec& spec) { return !arch::is_of_prefix(spec.name); });
  const bool is_mapper = !specs.empty() && specs.front().name.starts_with(arch::kPrefixHidden);  // of contexts
  const auto parts = is_mapper ? size_t{0} : static_cast<size_t>(other - specs.begin());
  const bool is_projected = parts > 0 && specs.front().name == arch::kPrefixEmbedding;
  std::vector<TensorSpec> in_file;
  if (parts > 0) in_file.push_back(joined_spec({specs.data(), parts}, is_projected));
  for (size_t rest = parts; rest < specs.size(); ++rest)
    in_file.push_back(
        {(parts > 0 ? kPromptPrefix : kAdapterPrefix) + specs[rest].name, specs[rest].dtype, specs[rest].shape});
  const size_t first = parts > 0 ? 1 : 0;
  return {std::move(in_file), [fetch = std::move(fetch), parts, first, is_projected](size_t tensor) {
            if (tensor >= first) return fetch(parts + tensor - first);
            std::vector<at::Tensor> all;
            for (size_t part = 0; part < parts; ++part) all.push_back(fetch(part));
            return joined(all, is_projected);
          }};
}

}  // namespace fpdist::checkpoint
