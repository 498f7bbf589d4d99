#pragma once
// trainer (private): the folder that a run writes into: who holds it, and how it begins.

#include <functional>
#include <memory>
#include <string>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/trainer/options.hpp"
#include "src/files/lock_file.hpp"
#include "src/trainer/run/resume.hpp"

namespace fpdist::trainer {

/// What a path is to this run, as Trainer::input_at says.
using InputAt = std::function<std::string(const std::string& path)>;

/// Collective. Rank 0 holds output_dir/run.lock, with its process and host in it, until the result goes: another run
/// there is refused meanwhile, however this one ends. Makes output_dir; undoes what a killed save left there, where the
/// run may go on from a checkpoint. Throws on every rank, with the same words: ConfigError where somebody holds it,
/// DiskError. `log` hears of a file system without locks.
std::unique_ptr<files::LockFile> lock_output_dir(const TrainOptions& options, const InputAt& input_at,
                                                 comm::Communicator& world, LogSink& log);

/// Collective, with the lock. Rank 0 makes logs/ and writes config.resolved.yaml. Anew, it first removes what an
/// earlier run wrote; going on from a checkpoint in it, what that run had not finished, the lines of metrics.jsonl
/// behind the checkpoint's step, and newer checkpoints. Throws on every rank, with the same words, and has touched
/// nothing then: ConfigError where train.overwrite_output_dir is false and it holds anything (anew; for auto: final/ or
/// a checkpoint) or newer checkpoints than the one that was named, and where any rank finds an input among what the run
/// would write over; DiskError.
void prepare_output_dir(const TrainOptions& options, const ResumePoint& from, const std::string& resolved_config,
                        const InputAt& input_at, comm::Communicator& world);

}  // namespace fpdist::trainer
