#pragma once
// trainer (private): the model of a run, from a Hugging Face directory or seeded, and the order of its parameters.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"
#include "src/trainer/job.hpp"

namespace fpdist::trainer {

/// By what the loss's log-probs divide logits: that of the rollouts which it learns from.
double loss_temperature(const config::Config& config);

/// Whether the embedding serves as the head on another stage, whose copy's gradients must be added.
bool ties_stages(const config::Config& config, const arch::Model& model);

/// Whether every run of layers has a copy of the weight, whose gradients must be added: what the layers have in common
/// of an MLP that makes their keys and values.
bool is_copied(const arch::Model& model, std::string_view parameter);

/// The runs of layers of this rank, with their weights loaded or seeded; only the own slices are read. `config`: as the
/// ranks of `mesh` run it. Collective over the mesh. Throws ModelFileError for weights that are missing, and where
/// ranks have read from different models.
std::vector<std::unique_ptr<model::Transformer>> load_model(const config::Config& config, const arch::Model& shape,
                                                            const comm::Mesh& mesh, at::Device where);

/// Writes the parameters as model.path has them, in the dtype of their main grads and over these: what values of fewer
/// bits were rounded from.
void read_unrounded(const config::Config& config, const arch::Model& shape,
                    const std::vector<ops::ParameterPtr>& parameters);

/// load_model for the frozen model in model.ref_path, whose embedding may be tied where the policy's is not.
/// Collective.
std::vector<std::unique_ptr<model::Transformer>> load_reference(const Job& job);

/// All trained parameters of this rank's runs, those whose gradients other ranks complete last; `late`: where these
/// begin in FlatParameters' order.
struct OrderedParameters {
  std::vector<ops::ParameterPtr> all;
  size_t late = 0;
  std::vector<ops::ParameterPtr> by_use;  ///< the same, in the order in which forward reads them
};
OrderedParameters order_parameters(const std::vector<std::unique_ptr<model::Transformer>>& runs, bool ties_stages,
                                   bool has_stages);

}  // namespace fpdist::trainer
