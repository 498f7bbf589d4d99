#include "src/generate/pass.hpp"

#include <ATen/ops/empty.h>

namespace fpdist::generate {
namespace {

std::unique_ptr<comm::Work> send(const at::Tensor& rows, comm::Communicator& pp, int to) {
  pp.group_begin();
  pp.send(rows, to);
  return pp.group_start();
}

at::Tensor received(const Stages& stages, const parallel::RowsHere& rows, int from) {
  const model::TransformerOptions& options = stages.runs.front()->options();
  const int64_t own = rows.own_rows(options.tp == nullptr ? 0 : options.tp->rank());
  at::Tensor x = at::empty({own, stages.runs.front()->config().hidden_size},
                           at::TensorOptions(options.dtype).device(options.device));
  stages.pp->group_begin();
  stages.pp->receive(x, from);
  stages.pp->group_end();
  return x;
}

}  // namespace

void wait_for(Sent& sent) {
  for (const auto& work : sent) work->wait();
  sent.clear();
}

at::Tensor pass(const Stages& stages, const parallel::RowsHere& rows, std::span<model::KeptKeys> kept, Sent& sent) {
  const int stage = stages.pp == nullptr ? 0 : stages.pp->rank(), count = stages.pp == nullptr ? 1 : stages.pp->size();
  at::Tensor x;
  for (size_t run = 0; run < kept.size(); ++run) {
    const bool is_first = run == 0 && stage == 0, is_last = run + 1 == kept.size() && stage + 1 == count;
    if (count > 1 && !is_first) x = received(stages, rows, (stage + count - 1) % count);
    x = stages.runs[run]->extend(rows, kept[run], x);
    if (count > 1 && !is_last) {
      sent.push_back(send(x, *stages.pp, (stage + 1) % count));
      x = at::Tensor();
    }
  }
  return x;
}

}  // namespace fpdist::generate
