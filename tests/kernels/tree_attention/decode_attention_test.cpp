// tree_attention of decoding steps by our own kernels as generation calls them: against the CPU twin in float64, the
// same bits twice, any strides, no wait, one upload a step; what falls to other kernels; what they refuse.
#include "kernels/tree_attention/decode/decode_attention.hpp"

#include <dlfcn.h>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "src/ops/decoding.hpp"
#include "tests/emulation/aten/operator_counts.hpp"
#include "tests/emulation/cuda/kernel_counts.hpp"
#include "tests/kernels/cuda/tree_mask.hpp"
#include "tests/kernels/gpu_case.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/laws/tolerance.hpp"

namespace fpdist::kernels {
namespace {

using DecodeAttention = Gpu;

AttentionMask mask_of(const test::TreeMask& mask) {
  return {test::int_tensor(mask.q_row), test::int_tensor(mask.k_row), test::int_tensor(mask.k_end)};
}

AttentionInputs inputs_of(const AttentionMask& mask, int64_t heads, int64_t key_heads, int64_t size,
                          at::ScalarType dtype) {
  const auto make = [&](const at::Tensor& rows, int64_t count) { return random({rows.numel(), count, size}, dtype); };
  return {make(mask.q_row, heads), make(mask.k_row, key_heads), make(mask.k_row, key_heads)};
}

AttentionCalls calls_of(const AttentionMask& mask, const AttentionInputs& in) {
  return {mask, *ops::runs_of_keys(mask.k_row, mask.k_end), in.q.device(), capability()};
}

AttentionOutput exact(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  const auto wide = [](const at::Tensor& x) { return here(x).to(at::kDouble); };
  return tree_attention({wide(in.q), wide(in.k), wide(in.v)}, mask, options);
}

uint64_t launches_of_decoding() {
  const auto counts_of =
      reinterpret_cast<decltype(&fpdist_emulated_kernel_counts)>(dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts"));
  if (counts_of == nullptr) return 0;
  emulated::KernelCounts counts;
  counts_of("decode_attention", &counts);
  return counts.launches;
}

uint64_t uploads() {
  const auto counts_of = reinterpret_cast<decltype(&fpdist_emulated_operator_counts)>(
      dlsym(RTLD_DEFAULT, "fpdist_emulated_operator_counts"));
  if (counts_of == nullptr) return 0;
  emulated::OperatorCounts counts;
  counts_of("copy from the host", &counts);
  return counts.calls;
}

bool is_emulated() { return dlsym(RTLD_DEFAULT, "fpdist_emulated_kernel_counts") != nullptr; }

TEST_F(DecodeAttention, IsThatOfFloat64OverRandomForests) {
  const AttentionOptions options{.scale = 0.1};
  const std::tuple<int64_t, int64_t, int64_t> heads[] = {{8, 2, 64}, {4, 4, 64}, {7, 1, 128}, {32, 2, 64}};
  for (uint64_t seed = 1; seed <= 4; ++seed)
    for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
      const auto& [query, key, size] = heads[seed % 4];
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << query << ":" << key << ":" << size << ", "
                                      << dtype);
      const AttentionMask mask =
          mask_of(test::decoding_forest(seed, static_cast<int32_t>(3 * seed), 100, 40, static_cast<int32_t>(seed % 5)));
      const AttentionInputs in = inputs_of(mask, query, key, size, dtype);
      const uint64_t before = launches_of_decoding();
      const AttentionOutput own = run_calls(in, calls_of(mask, in), options), right = exact(in, mask, options);
      EXPECT_EQ(launches_of_decoding() - before, is_emulated() ? 2u : 0u);
      EXPECT_LT(test::relative_error(here(own.out), right.out), test::tolerance(Made::kAttention, dtype));
      EXPECT_LT(test::relative_error(here(own.lse), right.lse), test::tolerance(Made::kSum, dtype));
      const at::Tensor rounded = run_calls(in, calls_of(mask, in), {.scale = 0.1, .rounded = true}).out;
      EXPECT_TRUE(at::equal(here(rounded), here(own.out).to(dtype)));
    }
}

TEST_F(DecodeAttention, GivesTheSameBitsTwiceWaitsForNothingAndGoesUpOnce) {
  const AttentionMask mask = mask_of(test::decoding_forest(4, 9, 200, 60));
  const AttentionInputs in = inputs_of(mask, 8, 2, 64, at::kBFloat16);
  const at::Tensor first = run_calls(in, calls_of(mask, in), {.scale = 0.1}).out;
  at::Tensor second;
  expect_no_waiting("decode_attention", [&] { second = run_calls(in, calls_of(mask, in), {.scale = 0.1}).out; });
  EXPECT_TRUE(at::equal(here(first), here(second)));
  if (!is_emulated()) return;
  const AttentionCalls calls = calls_of(mask, in);
  const uint64_t before = uploads();
  for (int layer = 0; layer < 3; ++layer) (void)run_calls(in, calls, {});
  EXPECT_EQ(uploads() - before, 1u) << "of all layers' calls";
}

TEST_F(DecodeAttention, TakesEveryStrideAndNoKeys) {
  const AttentionMask mask = mask_of(test::decoding_forest(6, 5, 60, 20));
  AttentionInputs in = inputs_of(mask, 4, 2, 64, at::kFloat);
  const AttentionOutput dense = run_calls(in, calls_of(mask, in), {});
  const auto wide = [](const at::Tensor& x, int64_t more) {
    const at::Tensor all = at::zeros({x.size(0), x.size(1) * x.size(2) + more}, x.options());
    const at::Tensor part = all.narrow(1, 0, x.size(1) * x.size(2)).unflatten(1, {x.size(1), x.size(2)});
    part.copy_(x);
    return part;
  };
  for (const int64_t more : {4, 2}) {  // what cp.async takes, and what is copied first
    const AttentionInputs apart{wide(in.q, more), wide(in.k, more), wide(in.v, more)};
    EXPECT_TRUE(at::equal(here(run_calls(apart, calls_of(mask, in), {}).out), here(dense.out)));
  }
  // Keys head by head, each head's rows side by side.
  const auto by_head = [](const at::Tensor& x) { return x.transpose(0, 1).contiguous().transpose(0, 1); };
  const AttentionInputs turned{in.q, by_head(in.k), by_head(in.v)};
  EXPECT_TRUE(at::equal(here(run_calls(turned, calls_of(mask, in), {}).out), here(dense.out)));
  const at::Tensor none = at::empty({0}, at::kInt);
  in.k = in.k.narrow(0, 0, 0), in.v = in.v.narrow(0, 0, 0);
  const AttentionOutput empty = run_calls(in, calls_of({mask.q_row, none, none}, in), {});
  EXPECT_TRUE(here(empty.out).eq(0).all().item<bool>() && here(empty.lse).isneginf().all().item<bool>());
}

TEST_F(DecodeAttention, LeavesToOthersWhatItDoesNotTake) {
  const auto expect_others = [](const AttentionMask& mask, const AttentionInputs& in, const char* what) {
    SCOPED_TRACE(what);
    const uint64_t before = launches_of_decoding();
    const AttentionOutput own = run_calls(in, calls_of(mask, in), {.scale = 0.1});
    EXPECT_EQ(launches_of_decoding(), before);
    EXPECT_LT(test::relative_error(here(own.out), exact(in, mask, {.scale = 0.1}).out),
              test::tolerance(Made::kAttention, at::kBFloat16));
  };
  const AttentionMask pack = whole_pack(test::fan_subtree_ends(40, 2, 30));
  expect_others(pack, inputs_of(pack, 2, 1, 64, at::kBFloat16), "queries that see one another");
  const AttentionMask mask = mask_of(test::decoding_forest(6, 5, 60, 20));
  expect_others(mask, inputs_of(mask, 2, 1, 96, at::kBFloat16), "another head size");
  expect_others(mask, inputs_of(mask, 34, 2, 64, at::kFloat), "more query heads a head of keys than rows");
  expect_others(mask, inputs_of(mask, 2, 1, 64, at::kDouble), "float64");
}

TEST_F(DecodeAttention, RefusesWhatItHasNoKernelFor) {
  const AttentionMask mask = mask_of(test::decoding_forest(6, 5, 60, 20));
  const AttentionInputs in = inputs_of(mask, 2, 1, 64, at::kBFloat16);
  const AttentionCalls calls = calls_of(mask, in);
  const DecodeTables& tables = *decode_tables(in, calls, {});
  EXPECT_THROW(decode_attention(in, tables, {.scale = -1}), ShapeError);
  EXPECT_THROW(decode_attention(inputs_of(mask, 2, 1, 96, at::kBFloat16), tables, {}), ShapeError);
  EXPECT_THROW(decode_attention({in.q.narrow(0, 0, 2), in.k, in.v}, tables, {}), ShapeError);
  DecodeTables on_host = tables;
  on_host.part_begin = on_host.part_begin.cpu();
  EXPECT_THROW(decode_attention(in, on_host, {}), ShapeError);
  const at::Tensor fewer = mask.k_row.narrow(0, 0, 7);
  EXPECT_THROW(AttentionCalls(mask, *ops::runs_of_keys(fewer, mask.k_end.narrow(0, 0, 7)), in.q.device(), 90),
               ShapeError);
}

}  // namespace
}  // namespace fpdist::kernels
