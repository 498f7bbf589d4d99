#pragma once
// The library in one include: World, Trainer, Config, and the pieces that stand on their own below them.

#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/slow_work.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/loss/loss.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/functional.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist {
using comm::World;
using config::Config;
using trainer::Trainer;
}  // namespace fpdist
