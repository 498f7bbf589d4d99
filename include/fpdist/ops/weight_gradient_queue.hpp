#pragma once
// ops: weight gradients that run later. While a queue is open, the backward of ops::linear puts the dW and db work of
// every parameter that names the queue on it instead of doing it; zero-bubble schedules run it in BackwardWeight (Qi et
// al., "Zero bubble pipeline parallelism", 2023). Work waits with its x and dy, detached from the graph they came from,
// and runs in the order in which it came: the same additions in the same order as without a queue.
// One rank's thread uses a queue; nothing here is collective.

#include <c10/util/intrusive_ptr.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace fpdist::ops {

class WeightGradientQueue final : public c10::intrusive_ptr_target {
 public:
  /// From now on backward work is queued under `key` (a pack, or a slice of it), after what is there already.
  void open(int64_t key) { key_ = key; }
  /// From now on backward does its work at once.
  void close() { key_.reset(); }
  bool is_open() const { return key_.has_value(); }
  /// Puts one piece of work under the open key. Throws ShapeError when the queue is closed.
  void push(std::function<void()> work);
  /// Does the work of `key` in order, releasing each piece's tensors as it is done. A key without work is no error.
  void run(int64_t key);
  /// Forgets the work of `key`.
  void discard(int64_t key) { work_.erase(key); }
  /// Pieces of work that wait, over all keys.
  size_t pending() const;

 private:
  std::optional<int64_t> key_;
  std::map<int64_t, std::vector<std::function<void()>>> work_;
};

}  // namespace fpdist::ops
