#pragma once
// config: the whole configuration of a run as one plain struct: the sum of each room's options.

#include "fpdist/arch/options.hpp"
#include "fpdist/comm/options.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/generate/options.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/model/options.hpp"
#include "fpdist/optim/options.hpp"
#include "fpdist/plan/options.hpp"
#include "fpdist/rewards/options.hpp"
#include "fpdist/trainer/options.hpp"

namespace fpdist::config {

struct Config {
  Method method = Method::kSft;
  model::ModelOptions model;
  arch::AdapterOptions adapter;
  data::DataOptions data;
  loss::LossOptions loss;
  generate::RolloutOptions rollout;
  rewards::RewardOptions reward;
  generate::EvalOptions eval;
  generate::FlexPrefillOptions flex_prefill;
  trainer::TrainOptions train;
  optim::OptimOptions optim;
  plan::ParallelOptions parallel;
  plan::PackOptions pack;
  comm::DeviceOptions comm;
  plan::PlanOptions plan;
};

/// Checks ranges and combinations that need no file and no rank count; throws ConfigError naming section.key and the
/// cure.
void validate(const Config& config);

}  // namespace fpdist::config
