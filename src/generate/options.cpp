#include "fpdist/generate/options.hpp"

#include <cmath>

#include "fpdist/core/error.hpp"

namespace fpdist::generate {

void check_options(const SamplingOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    check<ConfigError>(value >= least, "rollout.", name, " is ", value, "; it must be ", least, " or more");
  };
  const auto between = [](const char* name, double value, bool is_there, const char* range) {
    check<ConfigError>(is_there && std::isfinite(value), "rollout.", name, " is ", value, "; it must be ", range);
  };
  at_least("num_generations", options.num_generations, 1);
  at_least("max_completion_length", options.max_completion_length, 1);
  at_least("top_k", options.top_k, 0);
  at_least("max_num_seqs", options.max_num_seqs, 1);
  at_least("max_num_batched_tokens", options.max_num_batched_tokens, 1);
  between("temperature", options.temperature, options.temperature >= 0, "0 (the likeliest token) or more");
  between("top_p", options.top_p, options.top_p > 0 && options.top_p <= 1, "above 0 and at most 1");
  between("min_p", options.min_p, options.min_p >= 0 && options.min_p <= 1, "between 0 and 1");
  between("kv_gib", options.kv_gib, options.kv_gib >= 0, "0 (no limit) or more");
  between("repetition_penalty", options.repetition_penalty, options.repetition_penalty > 0, "above 0 (1: none)");
}

}  // namespace fpdist::generate
