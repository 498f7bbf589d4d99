#include "src/trainer/samples/stop_tokens.hpp"

#include <set>

#include "src/arch/end_tokens.hpp"

namespace fpdist::trainer {

std::vector<int64_t> stop_tokens(std::span<const int64_t> own, const std::string& directory,
                                 data::Tokenizer& tokenizer) {
  std::set<int64_t> stops = arch::end_tokens(directory);
  stops.insert(own.begin(), own.end());
  if (tokenizer.refusal().empty() && tokenizer.facts().eos_id >= 0) stops.insert(tokenizer.facts().eos_id);
  return {stops.begin(), stops.end()};
}

}  // namespace fpdist::trainer
