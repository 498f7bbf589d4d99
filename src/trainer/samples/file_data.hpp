#pragma once
// trainer (private): groups that files hold.

#include <memory>

#include "src/trainer/samples/run_data.hpp"

namespace fpdist::trainer {

/// Collective. Reads data.path and what is evaluated on. They stay in the token cache, where there is one, unless the
/// reference's log-probs of all of them are computed first. `trainer` must outlive it; `log` hears what there is to say
/// ahead of the run. Throws DataError where the ranks have read different data, ConfigError where they do not fit.
std::unique_ptr<RunData> read_file_data(Trainer& trainer, LogSink& log);

}  // namespace fpdist::trainer
