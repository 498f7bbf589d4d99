#pragma once
// config: what a job runs with, nothing left to a default that only code knows. Needs neither ranks nor weights nor
// data: the model's config.json and a cost file are all that is read.

#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::config {

struct Settled {
  /// The mesh in full, layers of every run, the loss as loss::resolved fills it in. `model.device` is still auto where
  /// it was: a rank sees its device only when it opens it. Words that say who chooses for every pack stay (cp_method
  /// auto, ulysses 0, slices 0). "" and -1 are left for keys that the run has no use for (see to_yaml).
  Config config;
  arch::Model model;
  plan::StageCosts costs;  ///< what steps are planned with: plan.costs, or the model's FLOPs
  plan::CpCosts cp_costs;  ///< what travels between context-parallel ranks, in bytes a row

  int ranks() const { return config.parallel.size(); }
};

/// `config`, which validate has accepted, as a job of `ranks` ranks runs it. Settling a settled configuration again
/// changes nothing. Not collective. Throws ConfigError, naming key and cure, where ranks or model do not divide over
/// the mesh and for costs of another model, ModelFileError for a config.json that is missing or not understood,
/// and for a model.ref_path of another architecture, naming what differs.
Settled settle(Config config, int ranks);

/// Throws ConfigError for a model whose weights lie in 4 bits and that has no adapter to train beside them.
void check_trained(const Settled& job);

/// The text of config.resolved.yaml: parse_command_line and settle for as many ranks give the same job back. Keys that
/// the job has no use for (model.path beside a preset, loss.beta of sft) are left out.
std::string to_yaml(const Settled& job);

}  // namespace fpdist::config
