#pragma once
// main: a model on the ranks of a world that generates: dp x cp replicas of it, each whole on one rank or in parts over
// tp and pp.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/generate/generate.hpp"

namespace fpdist::main_program {

class Generators {
 public:
  /// Collective. Throws what is wrong with the model, and ConfigError where the mesh and the ranks do not go together.
  Generators(comm::World& world, config::Settled settled, LogSink& log);

  int replicas() const { return mesh_->shape().dp * mesh_->shape().cp; }

  /// Collective: throws, on all ranks alike, what generate::check_prompts does.
  void check_prompts(std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& sampling) const;

  /// Collective, with the same arguments on all ranks: each replica completes its part of the prompts [begin, end),
  /// whose places are their numbers. These prompts' completions on all ranks, without entropies where other replicas
  /// made them. `report`: tokens of all replicas, seconds of the slowest; what else it has, of this one; what prefix_kv
  /// dropped, of all. check_prompts has passed.
  std::vector<std::vector<generate::Completion>> complete(std::span<const std::vector<int32_t>> prompts, size_t begin,
                                                          size_t end, const generate::SamplingOptions& sampling,
                                                          generate::GenerationReport& report);

 private:
  comm::World& world_;
  std::unique_ptr<comm::Device> device_;
  std::unique_ptr<comm::Mesh> mesh_;
  std::vector<std::unique_ptr<model::Transformer>> runs_;
};

}  // namespace fpdist::main_program
