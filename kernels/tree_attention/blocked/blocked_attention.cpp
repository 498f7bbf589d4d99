#include "kernels/tree_attention/blocked/blocked_attention.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/merge.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kLine = 128;  // bytes that threads write apart: two cache lines, which are fetched in pairs

/// task(number, scratch) for every number below `tasks`, in turn on whichever thread is free, which has `bytes` of its
/// own.
void for_tasks(int64_t tasks, int64_t bytes, const std::function<void(int64_t task, void* scratch)>& task) {
  const int64_t threads = std::min<int64_t>(tasks, at::get_num_threads());
  const int64_t apart = (bytes + kLine - 1) / kLine * kLine;
  const at::Tensor scratch = at::empty({threads * apart}, at::kByte);
  auto* const first = static_cast<std::byte*>(scratch.mutable_data_ptr());
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t t = next++; t < tasks; t = next++) task(t, first + i * apart);
  });
}

at::Tensor words(int64_t n) { return at::empty({n}, at::kInt); }
uint32_t* pointer(const at::Tensor& words) {
  return words.numel() == 0 ? nullptr : static_cast<uint32_t*>(words.mutable_data_ptr());
}
uint32_t* moved(uint32_t* from, int64_t words) { return from ? from + words : nullptr; }

/// Keys of all heads, packed.
class PackedKeys {
 public:
  enum class For { kForward, kBackward };
  PackedKeys(const BlockedPlan& plan, const BlockedKernel& kernel, For use)
      : head_words_(plan.problem().panels * plan.panel_words()) {
    const BlockedProblem& problem = plan.problem();
    const int64_t all = problem.key_heads * head_words_;
    const bool backward = use == For::kBackward;
    k_across_ = words(all), v_along_ = words(backward ? 0 : all);
    v_across_ = words(backward ? all : 0), k_along_ = words(backward ? all : 0);
    for_tasks(problem.key_heads * problem.panels, 0, [&, backward](int64_t task, void*) {
      const int64_t head = task / problem.panels, panel = task % problem.panels;
      if (!backward && problem.panel[panel].is_direct) return;
      kernel.pack_panels(problem, head, panel, panel + 1, of(head));
    });
  }
  PackedPanels of(int64_t head) const {
    const int64_t at = head * head_words_;
    return {.k_across = moved(pointer(k_across_), at),
            .v_along = moved(pointer(v_along_), at),
            .v_across = moved(pointer(v_across_), at),
            .k_along = moved(pointer(k_along_), at)};
  }

 private:
  int64_t head_words_;
  at::Tensor k_across_, v_along_, v_across_, k_along_;
};

/// Rows of all heads, packed.
class PackedQueries {
 public:
  PackedQueries(const BlockedPlan& plan, const BlockedKernel& kernel, const at::Tensor& grad,
                const AttentionOutput& merged)
      : rows_((plan.problem().rows() + 1) / 2 * 2), words_(plan.words()), padded_(plan.problem().padded) {
    const BlockedProblem& problem = plan.problem();
    const int64_t all = problem.key_heads * rows_;
    q_ = words(all * words_), grad_ = words(all * words_);
    if (kernel.word == 2) q_along_ = words(all / 2 * padded_), grad_along_ = words(all / 2 * padded_);
    lse2_ = at::empty({all}, at::kFloat), delta_ = at::empty({all}, at::kFloat);
    for_tasks(problem.key_heads * plan.blocks(), 0, [&](int64_t task, void*) {
      const int64_t head = task / plan.blocks(), begin = task % plan.blocks() * kBlockRows;
      kernel.pack_rows(problem, {.head = head,
                                 .row_begin = begin,
                                 .row_end = std::min(begin + kBlockRows, problem.rows()),
                                 .grad = grad.const_data_ptr(),
                                 .out = merged.out.const_data_ptr(),
                                 .grad_is_bfloat16 = grad.scalar_type() == at::kBFloat16,
                                 .out_is_bfloat16 = merged.out.scalar_type() == at::kBFloat16,
                                 .lse = merged.lse.const_data_ptr<float>(),
                                 .packed = of(head)});
    });
  }
  PackedRows of(int64_t head) const {
    const int64_t at = head * rows_;
    PackedRows rows{.q = pointer(q_) + at * words_,
                    .grad = pointer(grad_) + at * words_,
                    .q_along = nullptr,
                    .grad_along = nullptr,
                    .lse2 = lse2_.mutable_data_ptr<float>() + at,
                    .delta = delta_.mutable_data_ptr<float>() + at};
    const bool has_pairs = q_along_.defined();
    rows.q_along = has_pairs ? pointer(q_along_) + at / 2 * padded_ : rows.q;
    rows.grad_along = has_pairs ? pointer(grad_along_) + at / 2 * padded_ : rows.grad;
    return rows;
  }

 private:
  int64_t rows_, words_, padded_;  // of a head; rows even
  at::Tensor q_, grad_, q_along_, grad_along_, lse2_, delta_;
};

/// Queries' gradients of every (run, head), block by block of those that see the run's keys, which are added up in the
/// order of the runs.
class QueryGradients {
 public:
  QueryGradients(const BlockedPlan& plan, const std::vector<PanelRun>& runs)
      : problem_(plan.problem()),
        touched_(runs.size() * static_cast<size_t>(problem_.key_heads * plan.blocks())),
        blocks_(plan.blocks()) {
    for (const PanelRun& run : runs) {
      const auto [begin, end] = plan.rows_that_see(run);
      const int64_t first = begin / kBlockRows, last = (end + kBlockRows - 1) / kBlockRows;
      part_.push_back(
          {first, last, at::empty({problem_.key_heads * (last - first) * kBlockRows * problem_.padded}, at::kFloat)});
    }
  }
  /// Where row 0 of the head would stand.
  float* of(size_t run, int64_t head) {
    const RunSum& part = part_[run];
    return part.sum.mutable_data_ptr<float>() +
           (head * (part.last - part.first) - part.first) * kBlockRows * problem_.padded;
  }
  uint8_t* touched(size_t run, int64_t head) {
    return touched_.data() + (static_cast<int64_t>(run) * problem_.key_heads + head) * blocks_;
  }
  /// Into [queries, heads, head_size] of floats or bfloat16.
  void add_up(const at::Tensor& dq, const BlockedKernel& kernel) {
    const bool rounds = dq.scalar_type() == at::kBFloat16;
    const int64_t size = problem_.head_size;
    for_tasks(problem_.key_heads * blocks_, size * 4, [&](int64_t task, void* scratch) {
      const int64_t head = task / blocks_, begin = task % blocks_ * kBlockRows;
      for (int64_t row = begin; row < std::min(begin + kBlockRows, problem_.rows()); ++row) {
        const int64_t to = problem_.place(head, row);
        auto* sum = rounds ? static_cast<float*>(scratch) : dq.mutable_data_ptr<float>() + to;
        add_up_row(head, row, sum);
        if (rounds) kernel.round(sum, size, static_cast<uint16_t*>(dq.mutable_data_ptr()) + to);
      }
    });
  }

 private:
  struct RunSum {
    int64_t first, last;  // blocks
    at::Tensor sum;
  };
  void add_up_row(int64_t head, int64_t row, float* to) {
    const int64_t size = problem_.head_size;
    bool is_first = true;
    for (size_t run = 0; run < part_.size(); ++run) {
      if (!touched(run, head)[row / kBlockRows]) continue;
      const float* part = of(run, head) + row * problem_.padded;
      if (is_first) std::copy(part, part + size, to);
      if (!is_first)
        for (int64_t d = 0; d < size; ++d) to[d] += part[d];
      is_first = false;
    }
    if (is_first) std::fill(to, to + size, 0.0f);
  }

  const BlockedProblem& problem_;
  std::vector<RunSum> part_;
  std::vector<uint8_t> touched_;
  int64_t blocks_;
};

AttentionInputs contiguous(const AttentionInputs& in) {
  return {in.q.contiguous(), in.k.contiguous(), in.v.contiguous()};
}
bool rounds_results(const AttentionInputs& in, const AttentionOptions& options) {
  return options.rounded && in.q.scalar_type() == at::kBFloat16;
}
AttentionMask contiguous(const AttentionMask& mask) {
  return {mask.q_row.contiguous(), mask.k_row.contiguous(), mask.k_end.contiguous()};
}

/// Of each run of panels by itself.
std::vector<AttentionOutput> run_forward(const BlockedPlan& plan, const std::vector<PanelRun>& runs,
                                         const PackedKeys* packed, const BlockedKernel& kernel, bool rounds) {
  const BlockedProblem& problem = plan.problem();
  const int64_t heads = problem.key_heads * problem.group;
  std::vector<AttentionOutput> outputs;
  for (size_t run = 0; run < runs.size(); ++run)
    outputs.push_back({at::empty({problem.queries, heads, problem.head_size}, rounds ? at::kBFloat16 : at::kFloat),
                       at::empty({problem.queries, heads}, at::kFloat)});
  const int64_t a_run = problem.key_heads * plan.blocks();
  for_tasks(a_run * static_cast<int64_t>(runs.size()), kernel.scratch_bytes(problem), [&](int64_t task, void* scratch) {
    const auto run = static_cast<size_t>(task / a_run);
    const int64_t block = plan.blocks() - 1 - task % a_run / problem.key_heads;  // the last see most keys
    const int64_t head = task % problem.key_heads, begin = block * kBlockRows;
    kernel.forward(problem, {.head = head,
                             .row_begin = begin,
                             .row_end = std::min(begin + kBlockRows, problem.rows()),
                             .panel_begin = runs[run].first,
                             .panel_end = runs[run].second,
                             .kept = nullptr,
                             .packed = packed ? packed->of(head) : PackedPanels{},
                             .rounds = rounds,
                             .out = outputs[run].out.mutable_data_ptr(),
                             .lse = outputs[run].lse.mutable_data_ptr<float>(),
                             .scratch = scratch});
  });
  return outputs;
}

}  // namespace

bool can_run(const BlockedKernel* kernel) {
  if (!kernel) return false;
#if defined(__x86_64__) && defined(__GNUC__)
  const bool has_v4 = __builtin_cpu_supports("x86-64-v4");
  if (kernel == blocked_kernel_avx512_bf16()) return has_v4 && __builtin_cpu_supports("avx512bf16");
  if (kernel == blocked_kernel_avx512()) return has_v4;
  return __builtin_cpu_supports("x86-64-v3");
#else
  return false;
#endif
}

const BlockedKernel* best_blocked_kernel(at::ScalarType dtype, int64_t head_size) {
  if (dtype != at::kFloat && dtype != at::kBFloat16) return nullptr;
  if (head_size < 16 || head_size > 256) return nullptr;  // narrower ones would mostly be padding
  if (dtype == at::kBFloat16 && can_run(blocked_kernel_avx512_bf16())) return blocked_kernel_avx512_bf16();
  for (const BlockedKernel* kernel : {blocked_kernel_avx512(), blocked_kernel_avx2()})
    if (can_run(kernel)) return kernel;
  return nullptr;
}

AttentionOutput blocked_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                                  const BlockedKernel& kernel, BlockedCut cut) {
  const AttentionInputs all = contiguous(in);
  const AttentionMask rows = contiguous(mask);
  const BlockedPlan plan(all, rows, options.scale, kernel.word, cut);
  // One block of rows reads each key once: packing it beforehand would read it twice more.
  std::optional<PackedKeys> packed;
  if (plan.blocks() > 1) packed.emplace(plan, kernel, PackedKeys::For::kForward);
  const std::vector<PanelRun> runs = plan.forward_runs();
  const bool rounds = rounds_results(in, options);
  std::vector<AttentionOutput> parts =
      run_forward(plan, runs, packed ? &*packed : nullptr, kernel, rounds && runs.size() == 1);
  for (size_t run = 1; run < parts.size(); ++run) merge_attention(parts.front(), parts[run]);
  if (rounds) parts.front().out = parts.front().out.to(at::kBFloat16);
  return std::move(parts.front());
}

at::Tensor blocked_attention_of_panels(const AttentionInputs& in, const AttentionMask& mask, const KeptPanels& kept,
                                       double scale, const BlockedKernel& kernel) {
  const AttentionInputs all = contiguous(in);
  const AttentionMask rows = contiguous(mask);
  const BlockedPlan plan(all, rows, scale, kernel.word, BlockedCut::kByPlace);
  const BlockedProblem problem = plan.by_query_head();
  const PackedKeys packed(plan, kernel, PackedKeys::For::kForward);
  const int64_t heads = problem.key_heads, group = plan.problem().group, block = kept.block;
  const int64_t blocks = (problem.queries + block - 1) / block, parts = (block + kBlockRows - 1) / kBlockRows;
  check(std::ssize(kept.panel) == heads * blocks, "panels of ", kept.panel.size(), " blocks, and ", heads,
        " heads have ", blocks, " each");
  at::Tensor out = at::empty_like(all.q), lse = at::empty({problem.queries, heads}, at::kFloat);
  for_tasks(heads * blocks * parts, kernel.scratch_bytes(problem), [&](int64_t task, void* scratch) {
    const int64_t of_block = task / parts, head = of_block % heads;
    const int64_t at = blocks - 1 - of_block / heads;  // the last see most keys
    const int64_t begin = at * block + task % parts * kBlockRows;
    const int64_t end = std::min({begin + kBlockRows, (at + 1) * block, problem.queries});
    if (begin >= end) return;
    const std::vector<int32_t>& panel = kept.panel[static_cast<size_t>(head * blocks + at)];
    kernel.forward(problem, {.head = head,
                             .row_begin = begin,
                             .row_end = end,
                             .panel_begin = 0,
                             .panel_end = std::ssize(panel),
                             .kept = panel.data(),
                             .packed = packed.of(head / group),
                             .rounds = all.q.scalar_type() == at::kBFloat16,
                             .out = out.mutable_data_ptr(),
                             .lse = lse.mutable_data_ptr<float>(),
                             .scratch = scratch});
  });
  return out;
}

AttentionGradients blocked_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                              const AttentionOutput& merged, const AttentionMask& mask,
                                              const AttentionOptions& options, const BlockedKernel& kernel) {
  const AttentionInputs all = contiguous(in);
  const AttentionMask rows = contiguous(mask);
  const BlockedPlan plan(all, rows, options.scale, kernel.word);
  const BlockedProblem& problem = plan.problem();
  const at::Tensor grad = grad_out.contiguous();
  const PackedQueries queries(plan, kernel, grad, {merged.out.contiguous(), merged.lse.contiguous()});
  const PackedKeys keys(plan, kernel, PackedKeys::For::kBackward);
  const std::vector<PanelRun> runs = plan.backward_runs();
  QueryGradients dq(plan, runs);
  const bool rounds = rounds_results(in, options);
  const auto result = [&](const at::Tensor& like) {
    return at::empty(like.sizes(), rounds ? at::kBFloat16 : at::kFloat);
  };
  AttentionGradients gradients{result(all.q), result(all.k), result(all.v)};
  const auto tasks = static_cast<int64_t>(runs.size()) * problem.key_heads;
  for_tasks(tasks, kernel.scratch_bytes(problem), [&](int64_t task, void* scratch) {
    const auto run = static_cast<size_t>(task / problem.key_heads);
    const int64_t head = task % problem.key_heads;
    kernel.backward(problem, {.head = head,
                              .panel_begin = runs[run].first,
                              .panel_end = runs[run].second,
                              .packed = keys.of(head),
                              .rows = queries.of(head),
                              .dq = dq.of(run, head),
                              .touched = dq.touched(run, head),
                              .rounds = rounds,
                              .dk = gradients.k.mutable_data_ptr(),
                              .dv = gradients.v.mutable_data_ptr(),
                              .scratch = scratch});
  });
  dq.add_up(gradients.q, kernel);
  return gradients;
}

}  // namespace fpdist::kernels
