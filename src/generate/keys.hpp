#pragma once
// generate, private: keys and values of a wave's rows, and rows computed behind them.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/generate/stages.hpp"
#include "fpdist/model/kept_keys.hpp"
#include "src/generate/keys_by_layer.hpp"
#include "src/generate/pass.hpp"
#include "src/generate/wave.hpp"
#include "src/generate/windows.hpp"
#include "src/ops/decoding.hpp"

namespace fpdist::generate {

/// Rows that one call computes, or a part of them.
struct QueryRows {
  std::vector<int32_t> place, token, depth;   ///< ascending places
  std::span<const PromptWindow> window = {};  ///< of them, for flex_prefill; must outlive the rows
  std::span<const GrownLeaf> grown = {};      ///< by one row of them each, for prefix_kv; likewise
  size_t size() const { return place.size(); }
  void add(int32_t at, int32_t id, int32_t deep) { place.push_back(at), token.push_back(id), depth.push_back(deep); }
};

/// Of this rank's layers and heads; belongs to one version of the weights. Not for gradients. compute, logits and what
/// begins or ends a sharing are collective over the model's ranks.
class Keys {
 public:
  explicit Keys(const Stages& stages, const SamplingOptions& options = {});
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  /// Takes the keys over into the places of `wave`; the others hold zeros. One layer after the other, so that two waves
  /// lie in memory for one layer only. `runs`: with prefix_kv, of rows that will be computed.
  void move_to(const Wave& wave, const Moves& moves, std::vector<OwnRun> runs = {});

  /// [rows,H] on ranks of the last stage, undefined on others; the rows' ancestors are computed or among them.
  at::Tensor compute(QueryRows rows);
  /// What flex_prefill has kept of this rank's layers and heads since this was asked for.
  ops::FlexArea take_area() { return std::exchange(area_, {}); }
  /// What prefix_kv has; null: it is off.
  const KeysByLayer* by_layer() const { return by_layer_ ? &*by_layer_ : nullptr; }

  /// The last stage's ranks have them: [rows,V], float32 on the model's device; of own_logits, each a part of the
  /// vocabulary (model::Transformer::own_logits).
  bool has_logits() const;
  at::Tensor logits(const at::Tensor& hidden) const;
  at::Tensor own_logits(const at::Tensor& hidden) const;
  /// Null: one rank has the whole vocabulary.
  comm::Communicator* tp() const;
  int64_t vocabulary() const;

  /// What the last stage has found, on the CPU, to the others: it is theirs when end_sharing has returned. Between the
  /// two a rank may compute with other Keys of these stages (all ranks with the same ones, in the same order), so that
  /// no stage waits for another. Once behind one or more calls of compute, whose messages end with it.
  void begin_sharing(at::Tensor& found);
  void end_sharing();

 private:
  const Stages stages_;
  const FlexPrefillOptions flex_;
  const PrefixKvOptions prefix_kv_;
  std::optional<KeysByLayer> by_layer_;
  ops::FlexArea area_;
  int32_t padding_ = 0;          // the first place that fills calls up
  int64_t multiple_ = kPadding;  // of rows in a call
  at::Tensor key_row_, key_end_;
  std::shared_ptr<const ops::KeyRuns> key_runs_;  // of both
  std::vector<model::KeptKeys> kept_;             // of each run of layers
  Sent sent_;
};

/// Bytes of one row's keys and values on the rank that has most. Collective over pp.
int64_t bytes_per_row(const Stages& stages);

}  // namespace fpdist::generate
