#include "fpdist/comm/communicator.hpp"

#include "src/comm/work.hpp"

namespace fpdist::comm {

std::unique_ptr<Work> Communicator::start_all_reduce(at::Tensor& tensor, ReduceOp op) {
  all_reduce(tensor, op);
  return done_work();
}

std::unique_ptr<Work> Communicator::start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                                       std::span<const int64_t> counts) {
  all_gather_v(mine, out, counts);
  return done_work();
}

std::unique_ptr<Work> Communicator::start_reduce_scatter_v(const at::Tensor& in, at::Tensor& mine,
                                                           std::span<const int64_t> counts) {
  reduce_scatter_v(in, mine, counts);
  return done_work();
}

std::unique_ptr<Work> Communicator::start_all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts,
                                                       at::Tensor& out, std::span<const int64_t> out_counts) {
  all_to_all_v(in, in_counts, out, out_counts);
  return done_work();
}

void Communicator::keep_buffer(const at::Tensor&) {}

}  // namespace fpdist::comm
