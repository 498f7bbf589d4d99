#include "fpdist/ops/weight_gradient_queue.hpp"

#include <ATen/core/grad_mode.h>

#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::ops {

void WeightGradientQueue::push(std::function<void()> work) {
  check(is_open(), "weight gradient queue: work arrived while it is closed: open it with a key first");
  work_[*key_].push_back(std::move(work));
}

void WeightGradientQueue::run(int64_t key) {
  auto taken = work_.extract(key);  // gone from here even if a piece of it throws
  if (taken.empty()) return;
  const at::NoGradGuard no_grad;
  for (auto& work : taken.mapped()) std::exchange(work, nullptr)();
}

size_t WeightGradientQueue::pending() const {
  size_t pieces = 0;
  for (const auto& [key, work] : work_) pieces += work.size();
  return pieces;
}

}  // namespace fpdist::ops
