// Legend: n own rows, N rows of the own group, K rows received in a stage, A the accumulation dtype.
#include "fpdist/parallel/context_attention.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <tuple>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"
#include "fpdist/ops/partial_attention.hpp"
#include "src/parallel/context_exchange.hpp"

namespace fpdist::parallel {
namespace {

using Impl = ContextExchange::Impl;

/// Holds the exchange in autograd's saved data.
struct Holder final : torch::CustomClassHolder {
  explicit Holder(std::shared_ptr<const ContextExchange> held) : exchange(std::move(held)) {}
  std::shared_ptr<const ContextExchange> exchange;
};

/// Keys and values of the stages, one stage ahead of whoever asks for them.
class KeyStream {
 public:
  /// kv [N,2,Hkv,D]: own keys and values.
  KeyStream(const Impl& exchange, at::Tensor kv) : exchange_(exchange), kv_(std::move(kv)) {
    if (!exchange_.stage.empty()) start();
  }
  /// Waits for the next stage's (k, v) [K,Hkv,D]; what comes after it travels meanwhile.
  std::pair<at::Tensor, at::Tensor> next() {
    work_->wait();
    const ExchangeStage& stage = exchange_.stage[at_++];
    at::Tensor arrived = at::empty({stage.received, 2, kv_.size(2), kv_.size(3)}, kv_.options());
    for (size_t i = 0; i < stage.receive.size(); ++i) arrived.index_copy_(0, stage.receive[i].rows, buffers_[i]);
    before_ = arrived;
    if (at_ < exchange_.stage.size()) start();
    return {arrived.select(1, 0), arrived.select(1, 1)};
  }

 private:
  void start() {
    const ExchangeStage& stage = exchange_.stage[at_];
    const at::Tensor source = stage.relays ? at::cat({kv_, before_}) : kv_;
    buffers_.clear(), sent_.clear();
    comm::Communicator& keys = exchange_.keys;
    keys.group_begin();
    for (const RowMessage& message : stage.send) {
      sent_.push_back(source.index_select(0, message.rows));
      keys.send(sent_.back(), message.peer);
    }
    for (const RowMessage& message : stage.receive) {
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

/// Key gradients on their way home: one stage's travel while the next is computed.
class GradientStream {
 public:
  /// dkv [N,2,Hkv,D] in A: own rows' sum, added to in place.
  GradientStream(const Impl& exchange, at::Tensor& dkv) : exchange_(exchange), dkv_(dkv) {}
  /// Sends the stage's share [K,2,Hkv,D] to the owners.
  void give(size_t s, const at::Tensor& share) {
    finish();
    const ExchangeStage& stage = exchange_.stage[s];
    comm::Communicator& gradients = exchange_.gradients;
    gradients.group_begin();
    for (const RowMessage& message : stage.give) {
      sent_.push_back(share.index_select(0, message.rows));
      gradients.send(sent_.back(), message.peer);
    }
    for (const RowMessage& message : stage.take) {
      buffers_.push_back(at::empty({message.count, 2, dkv_.size(2), dkv_.size(3)}, dkv_.options()));
      gradients.receive(buffers_.back(), message.peer);
    }
    work_ = gradients.group_start();
    under_way_ = &stage;
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
  const ExchangeStage* under_way_ = nullptr;
};

struct ContextAttention : torch::autograd::Function<ContextAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const c10::intrusive_ptr<Holder>& holder, double scale) {
    const at::AutoDispatchBelowAutograd below;
    const Impl& exchange = holder->exchange->impl();
    const auto mine = split_heads(exchange, {q, k, v});
    KeyStream stream(exchange, at::stack({mine[1], mine[2]}, 1));
    auto [out, lse] =
        ops::partial_attention(mine[0], mine[1], mine[2], exchange.row, exchange.row, exchange.end, scale);
    for (const ExchangeStage& stage : exchange.stage) {
      const auto [keys, values] = stream.next();
      if (stage.received == 0) continue;
      const auto [part, part_lse] =
          ops::partial_attention(mine[0], keys, values, exchange.row, stage.row, stage.end, scale);
      ops::merge_attention(out, lse, part, part_lse);
    }
    const at::Tensor rounded = out.to(q.scalar_type());
    context->save_for_backward({mine[0], mine[1], mine[2], rounded, lse});
    context->saved_data["exchange"] = c10::IValue::make_capsule(holder);
    context->saved_data["scale"] = scale;
    return join_heads(exchange, {rounded})[0];
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto holder = c10::static_intrusive_pointer_cast<Holder>(context->saved_data["exchange"].toCapsule());
    const Impl& exchange = holder->exchange->impl();
    const double scale = context->saved_data["scale"].toDouble();
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &lse = saved[4];
    const at::Tensor out = saved[3].to(lse.scalar_type());
    const at::Tensor grad = split_heads(exchange, {grads[0].contiguous()})[0];
    KeyStream stream(exchange, at::stack({k, v}, 1));
    auto [dq, dk, dv] =
        ops::partial_attention_backward(grad, q, k, v, out, lse, exchange.row, exchange.row, exchange.end, scale);
    at::Tensor dkv = at::stack({dk, dv}, 1);
    GradientStream home(exchange, dkv);
    for (size_t s = 0; s < exchange.stage.size(); ++s) {
      const ExchangeStage& stage = exchange.stage[s];
      const auto [keys, values] = stream.next();
      at::Tensor share = at::zeros({stage.received, 2, dkv.size(2), dkv.size(3)}, dkv.options());
      if (stage.received > 0) {
        const auto [dq_part, dk_part, dv_part] =
            ops::partial_attention_backward(grad, q, keys, values, out, lse, exchange.row, stage.row, stage.end, scale);
        dq.add_(dq_part);
        share.select(1, 0).copy_(dk_part), share.select(1, 1).copy_(dv_part);
      }
      home.give(s, share);
    }
    home.finish();
    auto back = join_heads(
        exchange, {dq.to(q.scalar_type()), dkv.select(1, 0).to(k.scalar_type()), dkv.select(1, 1).to(v.scalar_type())});
    return {back[0], back[1], back[2], at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor context_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             std::shared_ptr<const ContextExchange> exchange, double scale) {
  check(exchange != nullptr, "context_attention: no exchange");
  const Impl& impl = exchange->impl();
  const int64_t own = impl.member_rows[static_cast<size_t>(impl.member)];
  check(q.dim() == 3 && q.size(0) == own && k.size(0) == own && v.size(0) == own, "context_attention: q has ",
        q.size(0), " rows, the plan gives this rank ", own);
  return ContextAttention::apply(q, k, v, c10::make_intrusive<Holder>(std::move(exchange)), scale);
}

}  // namespace fpdist::parallel
