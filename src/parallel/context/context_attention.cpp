// Legend: n own rows, N rows of the own team in this slice, K_o with those of earlier slices, K rows received in a
// round, A the accumulation dtype.
#include "src/parallel/context/context_attention.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <optional>
#include <tuple>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"
#include "src/core/index.hpp"
#include "src/ops/partial_attention.hpp"
#include "src/parallel/context/context_exchange.hpp"

namespace fpdist::parallel {
namespace {

using Impl = ContextExchange::Impl;
using OptionalTensor = std::optional<at::Tensor>;

/// What autograd's saved data holds beside tensors.
struct Holder final : torch::CustomClassHolder {
  Holder(std::shared_ptr<const ContextExchange> held, const ops::AttentionOptions& asked, ResidentKeys* keys,
         ops::AttentionTermPtr besides)
      : exchange(std::move(held)), options(asked), resident(keys), term(std::move(besides)) {}
  std::shared_ptr<const ContextExchange> exchange;
  ops::AttentionOptions options;
  ResidentKeys* resident;
  ops::AttentionTermPtr term;
};

/// Keys and values of the rounds, one round ahead of whoever asks for them.
class KeyStream {
 public:
  /// kv [K_o,2,Hkv,D]: own keys and values.
  KeyStream(const Impl& exchange, at::Tensor kv) : exchange_(exchange), kv_(std::move(kv)) {
    if (!exchange_.round.empty()) start();
  }
  /// Waits for the next round's (k, v) [K,Hkv,D]; what comes after it travels meanwhile.
  std::pair<at::Tensor, at::Tensor> next() {
    work_->wait();
    const ExchangeRound& round = exchange_.round[at_++];
    at::Tensor arrived = at::empty({round.received, 2, kv_.size(2), kv_.size(3)}, kv_.options());
    for (size_t i = 0; i < round.receive.size(); ++i) arrived.index_copy_(0, round.receive[i].rows, buffers_[i]);
    before_ = arrived;
    if (at_ < exchange_.round.size()) start();
    return {arrived.select(1, 0), arrived.select(1, 1)};
  }

 private:
  void start() {
    const ExchangeRound& round = exchange_.round[at_];
    const at::Tensor source = round.relays ? at::cat({kv_, before_}) : kv_;
    buffers_.clear(), sent_.clear();
    comm::Communicator& keys = exchange_.keys;
    keys.group_begin();
    for (const RowMessage& message : round.send) {
      sent_.push_back(source.index_select(0, message.rows));
      keys.send(sent_.back(), message.peer);
    }
    for (const RowMessage& message : round.receive) {
      buffers_.push_back(at::empty({message.count, 2, kv_.size(2), kv_.size(3)}, kv_.options()));
      keys.receive(buffers_.back(), message.peer);
    }
    work_ = keys.group_start();
  }

  const Impl& exchange_;
  at::Tensor kv_, before_;
  std::vector<at::Tensor> buffers_, sent_;
  std::unique_ptr<comm::Work> work_;
  size_t at_ = 0;
};

/// Key gradients on their way home: one round's travel while the next is computed.
class GradientStream {
 public:
  /// dkv [K_o,2,Hkv,D] in A: own rows' sum, added to in place.
  GradientStream(const Impl& exchange, at::Tensor& dkv) : exchange_(exchange), dkv_(dkv) {}
  /// Sends the round's share [K,2,Hkv,D] to the owners.
  void give(size_t s, const at::Tensor& share) {
    finish();
    const ExchangeRound& round = exchange_.round[s];
    comm::Communicator& gradients = exchange_.gradients;
    gradients.group_begin();
    for (const RowMessage& message : round.give) {
      sent_.push_back(share.index_select(0, message.rows));
      gradients.send(sent_.back(), message.peer);
    }
    for (const RowMessage& message : round.take) {
      buffers_.push_back(at::empty({message.count, 2, dkv_.size(2), dkv_.size(3)}, dkv_.options()));
      gradients.receive(buffers_.back(), message.peer);
    }
    work_ = gradients.group_start();
    under_way_ = &round;
  }
  void finish() {
    if (!work_) return;
    work_->wait();
    for (size_t i = 0; i < buffers_.size(); ++i) dkv_.index_add_(0, under_way_->take[i].rows, buffers_[i]);
    work_.reset(), buffers_.clear(), sent_.clear();
  }

 private:
  const Impl& exchange_;
  at::Tensor& dkv_;
  std::vector<at::Tensor> buffers_, sent_;
  std::unique_ptr<comm::Work> work_;
  const ExchangeRound* under_way_ = nullptr;
};

/// [K_o,2,Hkv,D]: this slice's keys and values behind the resident ones.
at::Tensor own_keys(const Impl& exchange, const at::Tensor& k, const at::Tensor& v, ResidentKeys* resident) {
  const at::Tensor kv = at::stack({k, v}, 1);
  if (resident == nullptr) return kv;
  const int64_t before = exchange.key_rows() - exchange.rows();
  if (before == 0)
    resident->keys = kv;
  else if (resident->keys.size(0) == before)  // else a recomputed forward: the rows are there
    resident->keys = at::cat({resident->keys, kv});
  return resident->keys.narrow(0, 0, exchange.key_rows());
}

/// Adds what this slice gives to all keys; returns [N,2,Hkv,D] of its own, which later slices have added to already.
at::Tensor own_gradient(const Impl& exchange, const at::Tensor& dkv, ResidentKeys* resident) {
  if (resident == nullptr) return dkv;
  if (!resident->gradients.defined())
    resident->gradients = at::zeros(resident->keys.sizes(), resident->keys.options().dtype(dkv.scalar_type()));
  resident->gradients.narrow(0, 0, exchange.key_rows()).add_(dkv);
  return resident->gradients.narrow(0, exchange.key_rows() - exchange.rows(), exchange.rows());
}

struct ContextAttention : torch::autograd::Function<ContextAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const OptionalTensor& trained, const OptionalTensor& also_trained,
                            const c10::intrusive_ptr<Holder>& holder) {
    (void)trained, (void)also_trained;  // by the term: it makes a graph even where q, k and v come from frozen weights
    const at::AutoDispatchBelowAutograd below;
    const Impl& exchange = holder->exchange->impl();
    const auto mine = split_heads(exchange, {q, k, v});
    const at::Tensor kv = own_keys(exchange, mine[1], mine[2], holder->resident);
    KeyStream stream(exchange, kv);
    ops::AttentionOutput whole = ops::partial_attention({mine[0], kv.select(1, 0), kv.select(1, 1)}, exchange.mask,
                                                        holder->options, exchange.calls);
    for (const ExchangeRound& round : exchange.round) {
      const auto [keys, values] = stream.next();
      if (round.received == 0) continue;
      ops::merge_attention(whole,
                           ops::partial_attention({mine[0], keys, values}, round.mask, holder->options, round.calls));
    }
    if (holder->term) holder->term->merge(whole, mine[0], holder->options, exchange.heads());
    const at::Tensor rounded = whole.out.to(q.scalar_type());
    context->save_for_backward({mine[0], holder->resident == nullptr ? kv : at::Tensor(), rounded, whole.lse});
    context->saved_data["exchange"] = c10::IValue::make_capsule(holder);
    return join_heads(exchange, {rounded})[0];
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto holder = c10::static_intrusive_pointer_cast<Holder>(context->saved_data["exchange"].toCapsule());
    const Impl& exchange = holder->exchange->impl();
    const auto saved = context->get_saved_variables();
    const at::Tensor& q = saved[0];
    const at::Tensor kv =
        holder->resident == nullptr ? saved[1] : holder->resident->keys.narrow(0, 0, exchange.key_rows());
    const ops::AttentionOutput whole{saved[2].to(saved[3].scalar_type()), saved[3]};
    const at::Tensor grad = split_heads(exchange, {grads[0].contiguous()})[0];
    KeyStream stream(exchange, kv);
    auto [dq, dk, dv] = ops::partial_attention_backward(grad, {q, kv.select(1, 0), kv.select(1, 1)}, whole,
                                                        exchange.mask, holder->options, exchange.calls);
    at::Tensor dkv = at::stack({dk, dv}, 1);
    GradientStream home(exchange, dkv);
    for (size_t s = 0; s < exchange.round.size(); ++s) {
      const ExchangeRound& round = exchange.round[s];
      const auto [keys, values] = stream.next();
      at::Tensor share = at::zeros({round.received, 2, dkv.size(2), dkv.size(3)}, dkv.options());
      if (round.received > 0) {
        const auto [dq_part, dk_part, dv_part] =
            ops::partial_attention_backward(grad, {q, keys, values}, whole, round.mask, holder->options, round.calls);
        dq.add_(dq_part);
        share.select(1, 0).copy_(dk_part), share.select(1, 1).copy_(dv_part);
      }
      home.give(s, share);
    }
    home.finish();
    ops::AttentionTerm::Trained trained;
    if (holder->term) trained = holder->term->backward(grad, q, whole, holder->options, exchange.heads(), dq);
    const at::Tensor own = own_gradient(exchange, dkv, holder->resident).to(q.scalar_type());
    const auto back = join_heads(exchange, {dq.to(q.scalar_type()), own.select(1, 0), own.select(1, 1)});
    return {back[0], back[1], back[2], trained[0], trained[1], at::Tensor()};
  }
};

}  // namespace

at::Tensor context_attention(const ops::AttentionInputs& in, std::shared_ptr<const ContextExchange> exchange,
                             const ops::AttentionOptions& options, ResidentKeys* resident,
                             const ops::AttentionTermPtr& term) {
  check(exchange != nullptr, "context_attention: no exchange");
  const auto& [q, k, v] = in;
  const Impl& impl = exchange->impl();
  const int64_t own = impl.member_rows[index(impl.member)];
  check(q.dim() == 3 && q.size(0) == own && k.size(0) == own && v.size(0) == own, "context_attention: q has ",
        q.size(0), " rows, the plan gives this rank ", own);
  check(!impl.sliced || resident != nullptr, "context_attention: a slice needs its pack's resident keys");
  OptionalTensor trained, also_trained;
  if (term) trained = term->trained()[0], also_trained = term->trained()[1];
  return ContextAttention::apply(q, k, v, trained, also_trained,
                                 c10::make_intrusive<Holder>(std::move(exchange), options, resident, term));
}

}  // namespace fpdist::parallel
