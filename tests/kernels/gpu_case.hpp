#pragma once
// Tests of what only a GPU has: the device of the program's argument, operators that must not make the host wait, and
// attention over whole packs.

#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::kernels {

using test::here, test::Made, test::there;

/// While it lives, whatever makes the host wait for the device throws.
class NoWaiting {
 public:
  NoWaiting() : before_(c10::cuda::warning_state().get_sync_debug_mode()) {
    c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR);
  }
  ~NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(before_); }
  NoWaiting(const NoWaiting&) = delete;
  NoWaiting& operator=(const NoWaiting&) = delete;

 private:
  c10::cuda::SyncDebugMode before_;
};

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (test::where().is_cpu()) GTEST_SKIP() << "SKIPPED: run with --device cuda";
    at::manual_seed(20261121);
  }
};

inline at::Tensor random(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
  return there(at::randn(sizes).to(dtype));
}

/// What is made once (handles, plans, modules) may wait; what comes after may not.
inline void expect_no_waiting(const char* what, const std::function<void()>& run) {
  run();
  const NoWaiting guard;
  EXPECT_NO_THROW(run()) << what << " waits for the device";
}

inline AttentionMask whole_pack(const std::vector<int32_t>& end) {
  const at::Tensor row = at::arange(static_cast<int64_t>(end.size()), at::kInt);
  return {row, row, test::int_tensor(end)};
}

inline int64_t capability() {
  const auto ask = find_operator<int64_t(int64_t)>("fpdist::compute_capability");
  return ask.call(there(at::empty({1})).device().index());
}

struct Problem {
  AttentionInputs in;
  at::Tensor grad;
};
inline Problem random_problem(const AttentionMask& mask, int64_t group, int64_t head_size,
                              at::ScalarType dtype = at::kBFloat16) {
  const int64_t count = mask.q_row.numel();
  const auto make = [&](int64_t heads) { return random({count, heads, head_size}, dtype); };
  return {{make(2 * group), make(2), make(2)}, make(2 * group)};
}

using Results = std::vector<at::Tensor>;  ///< out, lse, dq, dk, dv

}  // namespace fpdist::kernels
