#pragma once
// config: the data set of a job.

#include <memory>
#include <optional>

#include "fpdist/config/settled.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::config {

/// What the text of a job is read with, see data.tokenizer.
std::unique_ptr<data::Tokenizer> tokenizer_of(const Config& config, const arch::Model& model);

/// The rows of config.data for `model`, text by the tokenizer that config.data.tokenizer or the model's directory has.
/// Not collective. Throws what data::read_dataset and check_tokens do.
/// From the token cache where data.cache_dir has one; MayWrite::kYes makes it, see data::read_cached.
enum class MayWrite { kNo, kYes };
/// Keep::kMapped: groups stay in the cache, where there is one.
enum class Keep { kInMemory, kMapped };
data::Dataset read_data(const Config& config, const arch::Model& model, MayWrite may_write, Keep keep, LogSink& log);
data::Dataset read_data(const Config& config, const arch::Model& model, data::Tokenizer& tokenizer, MayWrite may_write,
                        LogSink& log, const data::ReadWatch& watch = {});

/// What a job trains on and what it evaluates on.
struct JobData {
  data::Dataset train;
  std::optional<data::Dataset> eval;  ///< of data.eval_path, or data.eval_fraction of data.path; nothing: neither
};
/// As read_data; data.eval_path is read into memory, by the same rules. Throws ConfigError as data::split_dataset does.
JobData read_job_data(const Config& config, const arch::Model& model, MayWrite may_write, Keep keep, LogSink& log);

/// The same job whose data are those of data.eval_path, which is not empty.
Config evaluation_config(Config config);

/// The folder of token caches beside the output.
std::string own_cache_folder(const Config& config);
/// The folder of a job's token cache; empty: it has none.
std::string cache_folder(const Config& config, const data::Tokenizer& tokenizer);

}  // namespace fpdist::config
