#pragma once
// generate, private: sessions side by side on the stages of a pipeline. The prompts in flight are cut into as many
// lanes as there are stages; while one lane's rows are on a later stage, this rank computes another's. No token depends
// on it: a draw's number is its completion's.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/generate/generate.hpp"
#include "src/generate/session.hpp"

namespace fpdist::generate {

/// For keys and values of a rank.
struct Room {
  int64_t bytes_per_row = 0, rows = 0;
  int64_t most_needed = 0;  ///< rows that the completions of one prompt may need
};

/// How many there are: one of each stage, where prompts, max_num_seqs and rows for the largest prompt suffice. One
/// alone where ranks hold several runs of layers (a step then passes each stage more than once) and with prefix_kv
/// (whose stages agree on what is dropped in the midst of a step).
int64_t lanes_of(const Stages& stages, int64_t prompts, const SamplingOptions& options, const Room& room);

class Lanes {
 public:
  /// As Session has them; max_num_seqs, max_num_batched_tokens and rows are those of all lanes together.
  Lanes(const Stages& stages, Session::Prompts prompts, std::span<Decoding> all, const SamplingOptions& options,
        const Room& room, const std::vector<int64_t>& shared);
  ~Lanes();

  /// The step that is begun, if any, and the beginning of the next one, of each lane. False: all are done. Collective
  /// over the model's ranks.
  bool step(GenerationReport& report);

 private:
  struct Lane;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace fpdist::generate
