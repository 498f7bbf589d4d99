#include "src/trainer/weights/load_adapter.hpp"

#include <ATen/core/grad_mode.h>

#include <string>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/prefix_file.hpp"

namespace fpdist::trainer {

void check_is_adapter_of(const arch::Model& model, Head head, const checkpoint::HfDirectory& adapter) {
  if (checkpoint::is_one_tensor(model.adapter.prefix)) return checkpoint::check_is_prefix_of(model, adapter);
  std::vector<std::string> names;
  for (const auto& [name, shape] : arch::trained_parameters(model, head)) {
    names.push_back(name);
    if (arch::is_of_score(name) && !adapter.contains(name)) continue;
    check<ModelFileError>(adapter.contains(name), adapter.path(), " is an adapter of another model: it lacks ", name,
                          ", which its adapter_config.json means here");
    const std::vector<int64_t> there = adapter.shape(name);
    check<ModelFileError>(there == shape, adapter.path(), " is an adapter of another model: ", name, " is ",
                          at::IntArrayRef(there), " there and ", at::IntArrayRef(shape), " here");
  }
  const std::vector<std::string> others = adapter.names_besides(names);
  check<ModelFileError>(others.empty(), adapter.path(), " is an adapter of another model: there is no place for its ",
                        others.empty() ? "" : others.front(), " here");
}

bool read_from_adapter(const arch::Model& model, const checkpoint::HfDirectory& adapter,
                       const ops::Parameter& parameter, at::Tensor& destination) {
  if (checkpoint::is_one_tensor(model.adapter.prefix) && arch::is_of_prefix(parameter.name)) {
    checkpoint::read_prefix_into(model, adapter, parameter.name, parameter.sharding.begin, destination);
    return true;
  }
  if (!adapter.contains(parameter.name)) return false;
  const at::NoGradGuard filling;
  const ops::Sharding& sharding = parameter.sharding;
  const at::IntArrayRef full = sharding.dim < 0 ? destination.sizes() : at::IntArrayRef(sharding.full_shape);
  adapter.read_slice_into(parameter.name, full, sharding.dim, sharding.begin, destination);
  return true;
}

}  // namespace fpdist::trainer
