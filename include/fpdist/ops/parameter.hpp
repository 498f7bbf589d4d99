#pragma once
// ops: parameters with main grads, laid out in two flat buffers so that ZeRO can shard them.
// Gradients are never averaged and never rounded on the way: dW is added in float32 (float64 for a float64 model)
// straight into `main_grad`, over all packs of a step.

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/ops/weight_gradient_queue.hpp"

namespace fpdist::kernels {
struct PackedWeight;
}

namespace fpdist::ops {

/// Which slice of a whole weight a tensor-parallel rank holds, and what its gradient still lacks.
struct Sharding {
  int dim = -1;                     ///< dim that is cut; -1: the whole weight
  int64_t begin = 0;                ///< first index of the own slice in that dim
  std::vector<int64_t> full_shape;  ///< of the whole weight; empty when dim is -1
  /// Whose gradients add up to the slice's: kNobody (it is complete), kAxis (replicated over tp, every rank has seen
  /// its rows only), kReplicas (a KV head that several tp ranks hold).
  enum class Sum { kNobody, kAxis, kReplicas } sum = Sum::kNobody;
  /// This rank counts it in the norm and writes it: true on exactly one of the tp ranks that hold these elements.
  bool counted = true;
};

/// What is known of a main grad in the step under way. Nodes of the graph keep it beside the main grad.
struct GradientState final : c10::intrusive_ptr_target {
  /// It counts as zeros, whatever lies there: who comes first writes over it, and all others add.
  bool is_empty = false;
};

struct QuantizedWeight;

/// One weight. `value` is a leaf with requires_grad; ops::linear and ops::embedding add their dW into `main_grad` and
/// return no gradient for it; what plain torch code leaves in value.grad() is folded in by
/// FlatParameters::fold_gradients.
struct Parameter {
  std::string name;      ///< Hugging Face name, e.g. model.layers.0.mlp.up_proj.weight
  at::Tensor value;      ///< model dtype
  at::Tensor main_grad;  ///< same shape, float32 or float64; undefined for a frozen parameter
  /// In 4 bits, of a frozen parameter of ops::linear and adapted_linear; there is no `value` then.
  std::shared_ptr<const QuantizedWeight> quantized;
  /// The value once more, as the CPU's products read it, for ops::linear and ops::logits without gradients; null: it is
  /// not (set_packed).
  std::shared_ptr<const kernels::PackedWeight> packed;
  Sharding sharding;
  c10::intrusive_ptr<GradientState> state;        ///< null: main_grad is never empty
  c10::intrusive_ptr<WeightGradientQueue> queue;  ///< null: ops::linear never defers its gradients
  bool is_magnitude = false;                      ///< DoRA's, which decays although it is a vector
  bool keeps_size = false;                        ///< a matrix that does not decay: parts of it stay as they are
  /// Weight decay on matrices, not on norms and biases, as Transformers' Trainer has it.
  bool decay() const { return (value.dim() >= 2 && !keeps_size) || is_magnitude; }
};

using ParameterPtr = std::shared_ptr<Parameter>;

/// Of the value, or of what it is quantized from. Throws ShapeError for a parameter without either.
at::IntArrayRef sizes_of(const Parameter& parameter);

/// Sets `packed` from the value as it is now, where a product can read it so (float32 on the CPU), or takes it away:
/// before the value changes.
void set_packed(Parameter& parameter, bool packed);

/// The value, made anew where the parameter is quantized; no gradient goes to it.
at::Tensor frozen_value(const Parameter& parameter);

/// Accumulation dtype for a model dtype: float64 for float64, else float32.
at::ScalarType accumulate_dtype(at::ScalarType model_dtype);

/// Moves parameters into one flat value buffer and one flat main-grad buffer, decayed ones first; the parameters become
/// views of them. All ranks must pass the same parameters in the same order. Parameters must be distinct (a tied head
/// is the same ParameterPtr and appears once).
class FlatParameters {
 public:
  explicit FlatParameters(std::vector<ParameterPtr> parameters);
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }  ///< flat order
  /// [n] model dtype. Settled first: what comes back holds no value that is still on its way (set_settle).
  at::Tensor& value() {
    if (settle_) settle_();
    return value_;
  }
  /// [n] accumulation dtype. Settled first: what counts as zeros is zeros in what comes back.
  at::Tensor& main_grad() {
    settle_gradients(0, parameters_.size());
    return main_grad_;
  }
  int64_t size() const { return value_.numel(); }
  int64_t decayed_size() const { return decayed_; }  ///< elements [0, decayed_size) take weight decay
  int64_t offset(size_t parameter) const { return offset_[parameter]; }
  /// All main grads count as zeros from here on, without a pass over their memory.
  void begin_gradients();
  /// Adds every value.grad() into its main grad and clears it. Call after each backward.
  void fold_gradients();
  /// Zeros where no gradient has come since begin_gradients(), for parameters [first, last) of the flat order. Whoever
  /// reads a Parameter's own main_grad, a view of the same memory, must have it called first.
  void settle_gradients(size_t first, size_t last);
  /// For who changes the values without waiting for it (parallel::ZeroReducer): how a reader waits. value() calls it;
  /// whoever reads a Parameter's own value, a view of the same memory, must have it called first. Empty: nothing does.
  void set_settle(std::function<void()> settle) { settle_ = std::move(settle); }

 private:
  std::vector<ParameterPtr> parameters_;
  std::vector<int64_t> offset_;
  at::Tensor value_, main_grad_;
  int64_t decayed_ = 0;
  std::function<void()> settle_;
};

}  // namespace fpdist::ops
