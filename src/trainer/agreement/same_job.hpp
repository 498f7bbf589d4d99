#pragma once
// trainer (private): whether all ranks are about to do the same. In this order, each on the ground of those before it:
// program and options as they are given, the model's files that are no weights, what all that has come to.

#include "fpdist/comm/communicator.hpp"
#include "fpdist/config/settled.hpp"

namespace fpdist::trainer {

/// Collective, as all below; each throws the same on every rank, naming what differs and on which ranks, and costs an
/// exchange of 16 bytes where nothing does. ConfigError unless all ranks run the same build with the same options: no
/// key may differ from rank to rank, paths included, since config.resolved.yaml can only say one.
void check_same_options(const config::Config& given, comm::Communicator& world);

/// ModelFileError unless config.json (field by field), tokenizer and generation files are the same, data.tokenizer's
/// too.
void check_same_model(const config::Settled& job, comm::Communicator& world);

/// ConfigError unless the costs that steps are planned with are the same, and every key as the job resolved it.
void check_same_settled(const config::Settled& job, comm::Communicator& world);

}  // namespace fpdist::trainer
