#include "src/config/read_data.hpp"

#include "fpdist/core/error.hpp"
#include "src/config/check_data.hpp"
#include "src/data/source/cached_dataset.hpp"
#include "src/data/source/split.hpp"

namespace fpdist::config {

std::unique_ptr<data::Tokenizer> tokenizer_of(const Config& config, const arch::Model& model) {
  return data::make_tokenizer(config.data.tokenizer, {.directory = config.model.path,
                                                      .workers = config.data.text_workers,
                                                      .vocab_size = static_cast<int32_t>(model.vocab_size)});
}

Config evaluation_config(Config config) {
  config.data.path = config.data.eval_path;
  config.data.mixture.clear();
  config.data.train_on_last_step_only = false;  // TRL's: all steps are judged
  return config;
}

std::string own_cache_folder(const Config& config) {
  std::string output = config.train.output_dir;
  while (output.size() > 1 && output.ends_with('/')) output.pop_back();
  return output + ".tokens";
}

std::string cache_folder(const Config& config, const data::Tokenizer& tokenizer) {
  const std::string& given = config.data.cache_dir;
  if (given == "none") return "";
  if (given != "auto") return given;
  const bool is_worth_it = !tokenizer.identity().empty() && data::begins_with_text(config.data, config.method);
  return is_worth_it ? own_cache_folder(config) : "";
}

namespace {

data::Dataset read(const Config& config, const arch::Model& model, data::Tokenizer& tokenizer,
                   const data::CacheUse& use, LogSink& log, const data::ReadWatch& watch = {}) {
  check<ConfigError>(
      config.rollout.prompts.empty(),
      "rollout.prompts: rollouts that the run makes are not there to be looked at (fpdist_train --plan plans "
      "for them as long as they may get); give data.path rows of fpdist_generate with rewards, and no "
      "rollout.prompts");
  data::Dataset dataset = data::read_cached(config.data, config.method, tokenizer, use, log, watch);
  check_tokens(dataset, model);
  return dataset;
}

}  // namespace

data::Dataset read_data(const Config& config, const arch::Model& model, MayWrite may_write, Keep keep, LogSink& log) {
  const std::unique_ptr<data::Tokenizer> tokenizer = tokenizer_of(config, model);
  return read(config, model, *tokenizer,
              {.folder = cache_folder(config, *tokenizer),
               .may_write = may_write == MayWrite::kYes,
               .stays_mapped = keep == Keep::kMapped},
              log);
}

JobData read_job_data(const Config& config, const arch::Model& model, MayWrite may_write, Keep keep, LogSink& log) {
  JobData data{.train = read_data(config, model, may_write, keep, log), .eval = std::nullopt};
  if (!config.data.eval_path.empty()) {
    data.eval = read_data(evaluation_config(config), model, may_write, Keep::kInMemory, log);
  } else if (config.data.eval_fraction > 0) {
    data::SplitDataset parts = data::split_dataset(std::move(data.train), config.data.eval_fraction, config.train.seed);
    data = {.train = std::move(parts.train), .eval = std::move(parts.eval)};
  }
  return data;
}

data::Dataset read_data(const Config& config, const arch::Model& model, data::Tokenizer& tokenizer, MayWrite may_write,
                        LogSink& log, const data::ReadWatch& watch) {
  return read(config, model, tokenizer,
              {.folder = cache_folder(config, tokenizer), .may_write = may_write == MayWrite::kYes}, log, watch);
}

}  // namespace fpdist::config
