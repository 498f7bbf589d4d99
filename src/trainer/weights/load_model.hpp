#pragma once
// trainer (private): the model of a run, from a Hugging Face directory or seeded, and the order of its parameters.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::trainer {

/// Whether the embedding serves as the head on another stage, whose copy's gradients must be added.
bool ties_stages(const config::Config& config, const arch::Model& model);

/// The runs of layers of this rank, with their weights loaded or seeded; only the own slices are read. `config`: as the
/// ranks of `mesh` run it. Collective over the mesh. Throws ModelFileError for weights that are missing, and where
/// ranks have read from different models.
std::vector<std::unique_ptr<model::Transformer>> load_model(const config::Config& config, const arch::Model& shape,
                                                            const comm::Mesh& mesh, at::Device where);

/// All parameters of this rank's runs, those whose gradients other ranks complete last; `late`: where these begin in
/// FlatParameters' order.
struct OrderedParameters {
  std::vector<ops::ParameterPtr> all;
  size_t late = 0;
  std::vector<ops::ParameterPtr> by_use;  ///< the same, in the order in which forward reads them
};
OrderedParameters order_parameters(const std::vector<std::unique_ptr<model::Transformer>>& runs, bool ties_stages);

}  // namespace fpdist::trainer
