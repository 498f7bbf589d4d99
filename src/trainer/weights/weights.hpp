#pragma once
// trainer (private): Weights, everything that trains, and the only one who writes it: this rank's runs of layers in
// their flat buffers, ZeRO's sums and gathers, AdamW's masters and moments. Whoever reads weights asks here.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"
#include "src/optim/adamw.hpp"
#include "src/parallel/zero/zero_reducer.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/weights/load_model.hpp"
#include "src/trainer/weights/rounding.hpp"

namespace fpdist::trainer {

/// Two points of the device's work (comm::Device::mark) between which ranks exchanged what they hold.
struct Exchanged {
  size_t begin = 0, end = 0;
};

struct UpdateRequest {
  double factor = 1;  ///< of the peak learning rates
  /// 0-dim, on the device. One that is not finite, of any rank, and nothing is updated.
  std::span<const at::Tensor> losses = {};
  /// A larger norm, and nothing is updated.
  double most_norm = std::numeric_limits<double>::infinity();
};

struct Updated {
  at::Tensor grad_norm;  ///< 0-dim float64 on the device, not clipped
  /// [1] float32 on the device, on every rank the same: 1 where nothing was updated, and where a loss or the norm is
  /// the reason.
  at::Tensor stopped, not_finite;
  /// What was sent: the rest of the gradients' sums, and the new weights as far as they do not travel beside it.
  std::vector<Exchanged> exchanges;
};

/// What this rank holds of a parameter's summed gradient.
struct GradientPart {
  size_t parameter = 0;  ///< number in all()
  at::Tensor value;      ///< flat view
};

/// A weight with all that trains it, as far as this rank holds it.
struct TrainedWeight {
  const std::string& name;        ///< Hugging Face name
  const ops::Sharding& sharding;  ///< which slice of the whole weight `value` is
  at::Tensor value;               ///< model dtype
  at::Tensor gradient;            ///< main grad of the slice: this rank's own, the sum after gather_gradients()
  /// Of elements [begin, begin + n) of the flattened slice, those that this rank updates; n may be 0. The ranks of
  /// mesh.dp_cp() together hold each element once.
  int64_t begin = 0;
  at::Tensor master, exp_avg, exp_avg_sq;  ///< [n]
};

class Weights {
 public:
  /// Collective. Loads or seeds the model and shards its optimizer. Throws ModelFileError for weights that are missing.
  /// `job` must outlive it.
  explicit Weights(const Job& job);

  /// Own runs of layers, in model order.
  const std::vector<std::unique_ptr<model::Transformer>>& runs() const { return runs_; }
  Head head() const { return runs_.back()->options().head; }
  /// All trained parameters of these, in the order of the flat buffers, by which they are numbered.
  const std::vector<ops::ParameterPtr>& all() const { return flat_.parameters(); }

  /// A step's gradients begin anew.
  void begin_step();
  /// Ahead of any use of these parameters of a run: values that still travel are waited for here, as late as can be (by
  /// the device's stream, not the host). Nothing where none did.
  [[nodiscard]] std::optional<Exchanged> before_use(std::span<const ops::ParameterPtr> parameters);
  /// Adds what plain torch code left in the values' own gradients. Call after each backward.
  void fold_gradients() { flat_.fold_gradients(); }
  /// Collective over mesh.dp_cp(), as all below. These parameters have their last gradient of the step.
  void complete(std::span<const ops::ParameterPtr> parameters);
  /// All that complete() has left to do: sums over tp, of tied copies and of what ZeRO has not reduced yet.
  void sum_gradients();
  /// After sum_gradients(); ascending, not collective.
  std::vector<GradientPart> gradients() const;
  /// sum_gradients(), then clipped gradients into the masters and new values on their way to all ranks; everything is
  /// queued, nothing is waited for. Collective over the world.
  Updated update(const UpdateRequest& request);

  /// The last update changed nothing (Updated::stopped): it does not count. Not collective.
  void take_back();

  /// Masters and moments are read by a thread of somebody's from now on: `end` returns when it is through, and is
  /// called, once, before anything here changes them.
  void lend(std::function<void()> end);

  /// All below read settled values: nothing travels any more.
  void settle() { reducer_.settle(); }
  ops::FlatParameters& parameters();
  void visit(const std::function<void(const TrainedWeight&)>& visitor);
  /// Every rank gets the whole of the summed gradients.
  void gather_gradients() { reducer_.gather_gradients(); }
  /// Every rank gets the whole masters, in the place of the gradients, which are gone until the next step.
  void gather_masters();
  bool has_gradients() const { return has_gradients_; }
  /// How often the optimizer has updated; 0 where this rank has no weights.
  int64_t updates() const { return optimizer_.empty() ? 0 : optimizer_.front().steps(); }
  /// `fill` writes master and moments of every weight that it visits; values become the masters, rounded, on every
  /// rank, and the optimizer has updated `updates` times.
  void restore(int64_t updates, const std::function<void(const TrainedWeight&)>& fill);
  /// Over all ranks, of a sample of the weights: what rounding them to bfloat16 leaves of the training so far.
  /// Collective over the world.
  Rounding rounding();

 private:
  /// Masters of a model in fewer bits than the directory that it was read from are the directory's values.
  void set_unrounded_masters();
  void end_loan();

  const Job& job_;
  std::vector<std::unique_ptr<model::Transformer>> runs_;
  bool ties_stages_;  ///< the embedding serves as the head on another stage
  bool has_gradients_ = true;
  OrderedParameters ordered_;
  ops::FlatParameters flat_;
  parallel::ZeroReducer reducer_;
  std::vector<optim::AdamW> optimizer_;              ///< one a piece of the reducer
  std::vector<at::Tensor> first_;                    ///< [pieces] sample of the masters ahead of the first step
  std::function<void()> lent_;                       ///< ends it; empty: to nobody
  std::unique_ptr<comm::Communicator> kv_replicas_;  ///< tp ranks that hold the same KV heads
};

}  // namespace fpdist::trainer
