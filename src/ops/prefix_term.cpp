#include <ATen/ATen.h>

#include <limits>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/ops/partial_attention.hpp"
#include "src/ops/term_heads.hpp"

namespace fpdist::ops {
namespace {

class PrefixTerm final : public AttentionTerm {
 public:
  /// `of`: whose values keys and values are; null: of nobody.
  PrefixTerm(Trained keys_and_values, std::array<ParameterPtr, 2> of, std::shared_ptr<const PrefixCalls> calls)
      : trained_(std::move(keys_and_values)), of_(std::move(of)), calls_(std::move(calls)) {}

  Trained trained() const override { return trained_; }
  void merge(AttentionOutput& whole, const at::Tensor& q, const AttentionOptions& options,
             const HeadPart& heads) const override {
    if (q.size(0) == 0) return;
    merge_attention(whole, partial_attention(inputs(q, heads), calls_->mask, options, calls_->calls));
  }
  Trained backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& whole,
                   const AttentionOptions& options, const HeadPart& heads, at::Tensor& dq) const override {
    if (q.size(0) == 0) return {};
    const auto [dq_part, dk, dv] =
        partial_attention_backward(grad_out, inputs(q, heads), whole, calls_->mask, options, calls_->calls);
    dq.add_(dq_part);
    for (const at::Tensor& of_keys : {dk, dv}) of_keys.narrow(0, 0, calls_->frozen).zero_();
    return {gradient(0, heads, dk.flatten(1)), gradient(1, heads, dv.flatten(1))};
  }

 private:
  AttentionInputs inputs(const at::Tensor& q, const HeadPart& heads) const {
    const auto of = [&](const at::Tensor& all) {
      return of_heads(all.detach(), 1, heads).unflatten(1, {-1, q.size(2)}).contiguous();
    };
    return {q, of(trained_[0]), of(trained_[1])};
  }
  /// Of these heads, into the main grad, or as that of a whole tensor.
  at::Tensor gradient(size_t which, const HeadPart& heads, const at::Tensor& of_these) const {
    if (of_[which]) return put_of_heads(*of_[which], 1, heads, of_these), at::Tensor();
    at::Tensor whole = at::zeros_like(trained_[which]);
    of_heads(whole, 1, heads).copy_(of_these);
    return whole;
  }

  Trained trained_;
  std::array<ParameterPtr, 2> of_;
  std::shared_ptr<const PrefixCalls> calls_;
};

}  // namespace

std::shared_ptr<const PrefixCalls> PrefixCalls::make(int64_t tokens, int64_t queries, at::Device device,
                                                     int64_t frozen) {
  check(tokens + queries <= std::numeric_limits<int32_t>::max(), "a prefix of ", tokens, " tokens ahead of ", queries,
        " rows: row numbers are 32 bits");
  auto prefix = std::make_shared<PrefixCalls>();
  prefix->frozen = frozen;
  prefix->mask = {at::arange(tokens, tokens + queries, at::kInt), at::arange(tokens, at::kInt),
                  at::full({tokens}, tokens + queries, at::kInt)};
  if (queries > 0) prefix->calls = prepare_attention(prefix->mask, device);
  return prefix;
}

AttentionTermPtr prefix_term(ParameterPtr keys, ParameterPtr values, std::shared_ptr<const PrefixCalls> calls) {
  AttentionTerm::Trained trained{trained_value(*keys), trained_value(*values)};
  return c10::make_intrusive<PrefixTerm>(std::move(trained), std::array{std::move(keys), std::move(values)},
                                         std::move(calls));
}

AttentionTermPtr prefix_term(at::Tensor keys, at::Tensor values, std::shared_ptr<const PrefixCalls> calls) {
  return c10::make_intrusive<PrefixTerm>(AttentionTerm::Trained{std::move(keys), std::move(values)},
                                         std::array<ParameterPtr, 2>{}, std::move(calls));
}

}  // namespace fpdist::ops
