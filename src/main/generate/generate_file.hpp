#pragma once
// main: a file of prompts to a file of completions.

#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "src/main/generate/generate_request.hpp"

namespace fpdist::main_program {

/// Collective over the world, whose rank 0 writes and judges. Rows appear in the order of the prompts, some waves at a
/// time, so that a run that is ended leaves what was finished. Throws what is wrong with model, prompts or output.
void generate_file(const GenerateRequest& request, comm::World& world, LogSink& log);

}  // namespace fpdist::main_program
