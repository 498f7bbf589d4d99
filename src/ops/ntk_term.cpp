// Legend: H heads, n queries, d head size; everything in A, heads first.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/ops/term_heads.hpp"

namespace fpdist::ops {
namespace {

class NtkTerm final : public AttentionTerm {
 public:
  NtkTerm(ParameterPtr values, ParameterPtr keys) : values_(std::move(values)), keys_(std::move(keys)) {}

  Trained trained() const override { return {trained_value(*values_), trained_value(*keys_)}; }
  void merge(AttentionOutput& whole, const at::Tensor& q, const AttentionOptions&,
             const HeadPart& heads) const override {
    const at::NoGradGuard no_grad;
    const NtkWeights of = weights(q, heads);
    const at::Tensor phi = phi_of(turned(q));
    const at::Tensor weight = at::matmul(phi, of.keys.abs()).squeeze(-1);  // [H,n]
    const at::Tensor lse = at::logaddexp(whole.lse, weight.log().t());     // [n,H]
    whole.out.mul_(at::exp(whole.lse - lse).unsqueeze(-1));
    whole.out.add_(at::matmul(phi, of.values).transpose(0, 1) * at::exp(-lse).unsqueeze(-1));
    whole.lse.copy_(lse);
  }
  Trained backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& whole,
                   const AttentionOptions&, const HeadPart& heads, at::Tensor& dq) const override {
    const at::NoGradGuard no_grad;
    const NtkWeights of = weights(q, heads);
    const at::Tensor x = turned(q), phi = phi_of(x);
    const at::Tensor grad = grad_out.to(whole.lse.scalar_type());
    const at::Tensor delta = (grad * whole.out).sum(-1, /*keepdim=*/true).transpose(0, 1);  // [H,n,1]
    const at::Tensor factor = at::exp(-whole.lse).t().unsqueeze(-1);                        // [H,n,1]
    const at::Tensor scaled = grad.transpose(0, 1) * factor;                                // [H,n,d]
    const at::Tensor dphi =
        at::matmul(scaled, of.values.transpose(1, 2)) - delta * factor * of.keys.abs().transpose(1, 2);
    dq.add_((dphi * slope_of(x)).transpose(0, 1));
    put_of_heads(*values_, 0, heads, at::matmul(phi.transpose(1, 2), scaled).flatten(0, 1));
    const at::Tensor dk = at::matmul(phi.transpose(1, 2), delta * factor).neg_();  // of |k|: [H,d,1]
    put_of_heads(*keys_, 0, heads, (dk * of.keys.sign()).squeeze(-1));
    return {};
  }

 private:
  struct NtkWeights {
    at::Tensor values, keys;  ///< [H,d,d], [H,d,1]
  };
  NtkWeights weights(const at::Tensor& q, const HeadPart& heads) const {
    const at::ScalarType sums = accumulate_dtype(q.scalar_type());
    const int64_t dim = q.size(2);
    const auto of = [&](const Parameter& parameter, int64_t columns) {
      return of_heads(parameter.value.detach(), 0, heads).to(sums).reshape({-1, dim, columns});
    };
    return {of(*values_, dim), of(*keys_, 1)};
  }
  /// [n,H,d] -> [H,n,d] q / d^(1/4).
  static at::Tensor turned(const at::Tensor& q) {
    return q.detach().to(accumulate_dtype(q.scalar_type())).transpose(0, 1) / root(q.size(2));
  }
  static double root(int64_t dim) { return std::pow(static_cast<double>(dim), 0.25); }
  static at::Tensor phi_of(const at::Tensor& x) { return at::elu(x) + 1; }
  /// Of phi by q.
  static at::Tensor slope_of(const at::Tensor& x) { return at::exp(x.clamp_max(0)) / root(x.size(2)); }

  ParameterPtr values_, keys_;
};

}  // namespace

AttentionTermPtr ntk_term(ParameterPtr values, ParameterPtr keys) {
  return c10::make_intrusive<NtkTerm>(std::move(values), std::move(keys));
}

}  // namespace fpdist::ops
