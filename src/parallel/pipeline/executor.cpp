#include "src/parallel/pipeline/executor.hpp"

#include <map>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"

namespace fpdist::parallel {
namespace {

using plan::Op;
using plan::OpKind;
using Key = std::tuple<int, int, int>;  // pack, slice, run

Key key_of(const Op& op) { return {op.pack, op.slice, op.run}; }

/// Tensors on their way between two ops of this rank.
class Shelf {
 public:
  void put(const Key& key, at::Tensor tensor) { held_[key] = std::move(tensor); }
  at::Tensor take(const Key& key, const char* what) {
    auto entry = held_.extract(key);
    if (entry.empty())
      throw std::logic_error(text("the op list uses the ", what, " of pack ", std::get<0>(key), ", slice ",
                                  std::get<1>(key), ", run ", std::get<2>(key), " before they are there"));
    return std::move(entry.mapped());
  }

 private:
  std::map<Key, at::Tensor> held_;
};

bool is_receive(OpKind kind) { return kind == OpKind::kReceive || kind == OpKind::kReceiveGradient; }

/// A posted send and what it reads, or a posted receive and where it arrives.
struct Travelling {
  at::Tensor tensor;
  std::unique_ptr<comm::Work> work;
};

class Executor {
 public:
  Executor(int runs, StepWork& work, comm::Communicator& rows, comm::Communicator& gradients)
      : stages_(rows.size()), stage_(rows.rank()), runs_(runs), work_(work), rows_(rows), gradients_(gradients) {}

  /// Posts what arrives ahead of `later`'s first op that is no message, so that it travels while the op before
  /// computes.
  void post_receives(std::span<const Op> later) {
    for (const Op& op : later) {
      if (op.peer < 0) return;
      if (is_receive(op.kind)) post_receive(op);
    }
  }
  void run(const Op& op) {
    switch (op.kind) {
      case OpKind::kForward:
        return forward(op);
      case OpKind::kBackwardInput:
        return backward(op);
      case OpKind::kBackwardWeight:
        return work_.backward_weight(op);
      case OpKind::kSend:
        return send(rows_, op, outputs_.take(key_of(op), "rows to send"), rows_under_way_);
      case OpKind::kSendGradient:
        return send(gradients_, op, input_gradients_.take(key_of(op), "gradient to send"), gradients_under_way_);
      case OpKind::kReceive:
        return inputs_.put(key_of(op), receive(op));
      case OpKind::kReceiveGradient:
        output_gradients_.put(key_of(op), receive(op));
        return settle(key_of(op));
      case OpKind::kReduceGradients:
        return work_.reduce_gradients(op);
      case OpKind::kOptimizerStep:
        finish();
        return work_.optimizer_step();
    }
  }
  void finish() {
    for (auto& [key, posted] : rows_under_way_) posted.work->wait();
    for (auto& [key, posted] : gradients_under_way_) posted.work->wait();
    rows_under_way_.clear(), gradients_under_way_.clear();
  }

 private:
  bool is_first(int run) const { return stage_ == 0 && run == 0; }
  bool is_last(int run) const { return stage_ == stages_ - 1 && run == runs_ - 1; }
  /// With one stage the next run lies on this rank and nothing is sent.
  bool hands_over() const { return stages_ == 1; }

  void forward(const Op& op) {
    const at::Tensor input = is_first(op.run) ? at::Tensor() : inputs_.take(key_of(op), "input rows");
    at::Tensor output = work_.forward(op, input);
    if (is_last(op.run)) return;
    if (hands_over())
      inputs_.put({op.pack, op.slice, op.run + 1}, std::move(output));
    else
      outputs_.put(key_of(op), std::move(output));
  }
  void backward(const Op& op) {
    const at::Tensor grad = is_last(op.run) ? at::Tensor() : output_gradients_.take(key_of(op), "output gradient");
    at::Tensor input_grad = work_.backward_input(op, grad);
    if (is_first(op.run)) return;
    if (hands_over())
      output_gradients_.put({op.pack, op.slice, op.run - 1}, std::move(input_grad));
    else
      input_gradients_.put(key_of(op), std::move(input_grad));
  }
  void send(comm::Communicator& axis, const Op& op, const at::Tensor& tensor, std::map<Key, Travelling>& under_way) {
    std::erase_if(under_way, [](auto& entry) {  // what has arrived need not be kept
      if (!entry.second.work->done()) return false;
      entry.second.work->wait();
      return true;
    });
    Travelling posted{.tensor = tensor.detach().contiguous(), .work = nullptr};
    axis.group_begin();
    if (posted.tensor.numel() > 0) axis.send(posted.tensor, op.peer);
    posted.work = axis.group_start();
    under_way.emplace(key_of(op), std::move(posted));
  }
  std::map<Key, Travelling>& arriving(const Op& op) {
    return op.kind == OpKind::kReceive ? rows_arriving_ : gradients_arriving_;
  }
  void post_receive(const Op& op) {
    if (arriving(op).count(key_of(op)) != 0) return;
    const bool is_gradient = op.kind == OpKind::kReceiveGradient;
    comm::Communicator& axis = is_gradient ? gradients_ : rows_;
    Travelling posted{.tensor = work_.buffer(op, is_gradient), .work = nullptr};
    axis.group_begin();
    if (posted.tensor.numel() > 0) axis.receive(posted.tensor, op.peer);
    posted.work = axis.group_start();
    arriving(op).emplace(key_of(op), std::move(posted));
  }
  at::Tensor receive(const Op& op) {
    post_receive(op);
    Travelling posted = std::move(arriving(op).extract(key_of(op)).mapped());
    posted.work->wait();
    return posted.tensor;
  }
  /// The gradient of rows that were sent has come: they have arrived, so this does not wait.
  void settle(const Key& key) {
    auto entry = rows_under_way_.extract(key);
    if (!entry.empty()) entry.mapped().work->wait();
  }

  int stages_, stage_, runs_;
  StepWork& work_;
  comm::Communicator &rows_, &gradients_;
  Shelf inputs_, outputs_, input_gradients_, output_gradients_;
  std::map<Key, Travelling> rows_under_way_, gradients_under_way_, rows_arriving_, gradients_arriving_;
};

}  // namespace

std::vector<OpTime> execute(std::span<const Op> ops, int runs, StepWork& work, const ExecutorAxes& axes,
                            const std::function<void(size_t)>& before) {
  comm::Device& device = axes.device;
  Executor executor(runs, work, axes.rows, axes.gradients);
  const size_t start = device.mark();
  std::vector<std::pair<size_t, size_t>> marks;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (before) before(i);
    const size_t begin = device.mark();
    device.begin_range(plan::to_string(ops[i]));
    if (ops[i].peer < 0) executor.post_receives(ops.subspan(i + 1));
    executor.run(ops[i]);
    device.end_range();
    marks.emplace_back(begin, device.mark());
  }
  executor.finish();
  work.queued();
  const std::vector<double> at = device.seconds();
  work.finished(at);
  std::vector<OpTime> times;
  for (const auto& [begin, end] : marks) times.push_back({at[begin] - at[start], at[end] - at[start]});
  return times;
}

}  // namespace fpdist::parallel
