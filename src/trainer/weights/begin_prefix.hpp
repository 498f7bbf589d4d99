#pragma once
// trainer (private): a prefix that begins as what the frozen model makes of a text or of tokens of its vocabulary
// (adapter.init_text, adapter.prompt_tuning_init). Source: Eyuboglu et al., "Cartridges: lightweight and
// general-purpose long context representations via self-study" (2025).

#include <memory>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/model/transformer.hpp"

namespace fpdist::trainer {

/// Collective over mesh.pp() and mesh.tp(). Keys and values of the text's first tokens, in all layers of these runs, or
/// embeddings; nothing where config.adapter asks for random ones. Throws ConfigError where the text has fewer tokens
/// than keys, DataError where it cannot be read.
void begin_prefix(const config::Config& config, const arch::Model& model,
                  const std::vector<std::unique_ptr<model::Transformer>>& runs, const comm::Mesh& mesh);

}  // namespace fpdist::trainer
