// A process of its own: its peak memory is the measurement.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "kernels/tree_attention/tree_attention.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist {
namespace {

int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

TEST(TreeAttentionMemory, GrowsWithRowsNotWithTheirSquare) {
  at::set_num_threads(2);
  // 32,768 rows with 8 heads of 64: one [T,T] float mask alone would be 4 GiB. Short branches keep the test quick.
  const auto end = test::fan_subtree_ends(64, 511, 64);
  std::vector<int32_t> row(end.size());
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(i);
  const auto rows = static_cast<int64_t>(row.size());
  ASSERT_EQ(rows, 32768);
  const at::Tensor q = at::randn({rows, 8, 64}), k = at::randn({rows, 8, 64}), v = at::randn({rows, 8, 64});
  const at::Tensor row_tensor = test::int_tensor(row), end_tensor = test::int_tensor(end);
  const at::Tensor grad = at::randn_like(q);
  const int64_t before = peak_bytes();
  const kernels::AttentionMask mask{row_tensor, row_tensor, end_tensor};
  const auto output = kernels::tree_attention({q, k, v}, mask, {.scale = 0.125});
  const auto [dq, dk, dv] = kernels::tree_attention_backward(grad, {q, k, v}, output, mask, {.scale = 0.125});
  const int64_t extra = peak_bytes() - before;
  EXPECT_TRUE(at::isfinite(dq.sum() + dk.sum() + dv.sum()).item<bool>());
  RecordProperty("extra_mib", static_cast<int>(extra >> 20));
  EXPECT_LT(extra, int64_t{1} << 30) << "extra MiB: " << (extra >> 20);
}

}  // namespace
}  // namespace fpdist
