#pragma once
// trainer (private): rollouts by the weights that are trained.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/job.hpp"

namespace fpdist::trainer {

/// What roll_out throws of its arguments. Collective.
void check_rollouts(const Job& job, const std::vector<std::unique_ptr<model::Transformer>>& runs,
                    std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& options,
                    uint64_t first_prompt = 0);

/// Trainer::roll_out. Collective over the world; `runs`: of this rank.
std::vector<data::Group> roll_out(const Job& job, const std::vector<std::unique_ptr<model::Transformer>>& runs,
                                  std::span<const std::vector<int32_t>> prompts,
                                  const generate::SamplingOptions& options, uint64_t first_prompt,
                                  generate::GenerationReport* report = nullptr, const RolledOut& finished = {});

}  // namespace fpdist::trainer
