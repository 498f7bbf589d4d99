#include "src/config/read_data.hpp"

#include "fpdist/core/error.hpp"

namespace fpdist::config {

std::unique_ptr<data::Tokenizer> tokenizer_of(const Config& config, const arch::Model& model) {
  return data::make_tokenizer(config.data.tokenizer, {.directory = config.model.path,
                                                      .workers = config.data.text_workers,
                                                      .vocab_size = static_cast<int32_t>(model.vocab_size)});
}

data::Dataset read_data(const Config& config, const arch::Model& model, LogSink& log) {
  return read_data(config, model, *tokenizer_of(config, model), log);
}

data::Dataset read_data(const Config& config, const arch::Model& model, data::Tokenizer& tokenizer, LogSink& log) {
  data::Dataset dataset = data::read_dataset(config.data, config.method, tokenizer, log);
  check<DataError>(dataset.max_token_id < model.vocab_size, "the data holds token id ", dataset.max_token_id,
                   ", the model's vocabulary has ", model.vocab_size,
                   " tokens: use the tokenizer that the model was made with");
  return dataset;
}

}  // namespace fpdist::config
