#pragma once
// generate, private: keys of which each layer keeps its own (prefix_kv.hpp). A prompt's own rows are chosen from when
// the last of them is computed: what its completions see is a matter of the prompt, not of when others come. Rows that
// several prompts have stay. Of a completion's rows each layer keeps the share that it kept of the prompt: as they
// become too many, the one `distance` before the last goes (the paper's code takes one of the prompt's at first, which
// here all completions share).

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "fpdist/generate/generate.hpp"
#include "fpdist/generate/stages.hpp"
#include "src/generate/wave.hpp"
#include "src/model/layerwise_keys.hpp"

namespace fpdist::generate {

/// Rows of a prompt that no other prompt has.
struct OwnRun {
  size_t prompt = 0;  ///< any number for it
  int32_t place = 0;  ///< of the first one; they stand side by side
  int32_t depth = 0;  ///< of the first one
  int32_t rows = 0;
};

/// A completion whose row was computed.
struct GrownLeaf {
  size_t prompt = 0;
  int32_t place = 0;  ///< of its first row
  int32_t rows = 0;   ///< that are there
};

/// Of this rank's runs of layers.
class KeysByLayer {
 public:
  /// Both must outlive it.
  KeysByLayer(const Stages& stages, const PrefixKvOptions& options);

  /// As Keys::move_to; `runs`: those of the wave whose rows will be computed.
  void move_to(std::vector<model::KeptKeys>& kept, const Wave& wave, const Moves& moves, std::vector<OwnRun> runs);

  /// Ahead of a call that computes the rows at `places` (ascending): sets kept.layerwise.
  void begin(std::vector<model::KeptKeys>& kept, std::span<const int32_t> places);
  /// Behind it: keys go of runs whose last row it was, and of completions that have grown. Collective over the model's
  /// ranks.
  void end(std::vector<model::KeptKeys>& kept, std::span<const GrownLeaf> grown);

  /// Those that a layer of this rank has keys of, ascending.
  const std::vector<int32_t>& places(size_t layer) const { return layer_[layer].place; }
  /// What has been kept and dropped so far, in the place of what stood there.
  void set_kept(GenerationReport& report) const;

 private:
  struct HeldLayer {
    std::vector<int32_t> place, end;  ///< of its keys, ascending
    std::vector<bool> is_gone;        ///< hidden, until keys move
    std::map<size_t, double> share;   ///< kept of each prompt's own rows
    size_t at(int32_t sought) const;
  };
  struct Counting {
    OwnRun run;
    int32_t done = 0;
    std::vector<at::Tensor> sum;  ///< [this rank's layers]
  };

  std::vector<std::vector<double>> importance(const Counting& counting) const;
  std::vector<int64_t> dropped(std::span<const std::vector<double>> importance, int64_t first) const;
  void choose(const Counting& counting, std::vector<std::vector<bool>>& goes);
  void drop(std::vector<model::KeptKeys>& kept, const std::vector<std::vector<bool>>& goes);
  void shorten(const GrownLeaf& leaf);

  const Stages& stages_;
  const PrefixKvOptions& options_;
  std::vector<int64_t> number_;   ///< of the model's layers, those that are here
  std::vector<HeldLayer> layer_;  ///< the same
  std::vector<Counting> counting_;
  int64_t kept_keys_ = 0, all_keys_ = 0, chosen_ = 0;
  std::vector<double> dropped_;  ///< [layers of the model] sums of shares
};

}  // namespace fpdist::generate
