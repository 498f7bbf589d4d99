#include "src/config/stop_tokens.hpp"

#include <memory>
#include <set>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/arch/end_tokens.hpp"

namespace fpdist::config {

void complete_stops(generate::SamplingOptions& sampling, const std::string& directory, data::Tokenizer& tokenizer) {
  const std::string refusal = tokenizer.refusal();
  std::set<int64_t> stops = arch::end_tokens(directory);
  stops.insert(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end());
  if (refusal.empty() && tokenizer.facts().eos_id >= 0) stops.insert(tokenizer.facts().eos_id);
  sampling.stop_token_ids.assign(stops.begin(), stops.end());
  if (sampling.stop.empty()) return;
  check<ConfigError>(refusal.empty(),
                     "rollout.stop looks for texts in what tokens stand for, and there is no "
                     "tokenizer: name its directory in data.tokenizer, or the tokens in rollout.stop_token_ids");
  sampling.token_bytes = std::make_shared<const std::vector<std::string>>(tokenizer.token_bytes());
}

}  // namespace fpdist::config
