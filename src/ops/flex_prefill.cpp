#include "src/ops/flex_prefill.hpp"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/blocked/blocked_attention.hpp"
#include "src/core/clock.hpp"
#include "src/core/index.hpp"
#include "src/ops/partial_attention.hpp"

namespace fpdist::ops {
namespace {

using Numbers = std::vector<double>;

int64_t blocks_of(int64_t rows, int64_t block) { return (rows + block - 1) / block; }

Numbers numbers(const at::Tensor& x) {
  const at::Tensor flat = x.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

at::Tensor wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

/// [blocks,D] the means of rows.
at::Tensor block_means(const at::Tensor& x, int64_t block) {
  const int64_t whole = x.size(0) / block;
  const at::Tensor means = x.narrow(0, 0, whole * block).unflatten(0, {whole, block}).mean(1);
  if (whole * block == x.size(0)) return means;
  return at::cat({means, x.narrow(0, whole * block, x.size(0) - whole * block).mean(0, true)});
}

/// How a head's last queries attend: by key, by distance.
struct Lines {
  Numbers vertical, slash;
};

Lines lines_of(const at::Tensor& q, const at::Tensor& k, double scale, int64_t block) {
  const int64_t keys = k.size(0), first = keys - block;
  at::Tensor scores = at::matmul(q.narrow(0, q.size(0) - block, block), k.t()).mul_(scale);
  const at::Tensor later = at::ones({block, block}, at::kBool).triu_(1);
  scores.narrow(1, first, block).masked_fill_(later, -std::numeric_limits<double>::infinity());
  const at::Tensor attention = at::softmax(scores, 1).contiguous();
  Lines lines{Numbers(index(keys), 0.0), Numbers(index(keys), 0.0)};
  AT_DISPATCH_FLOATING_TYPES(attention.scalar_type(), "lines_of", [&] {
    for (int64_t i = 0; i < block; ++i) {
      const scalar_t* const row = attention.const_data_ptr<scalar_t>() + i * keys;
      double* const to = lines.vertical.data();
      double* const by_distance = lines.slash.data() + (block - 1 - i);  // the far end first
      for (int64_t j = 0; j <= first + i; ++j) to[j] += static_cast<double>(row[j]);
      for (int64_t j = 0; j <= first + i; ++j) by_distance[j] += static_cast<double>(row[j]);
    }
  });
  std::reverse(lines.slash.begin(), lines.slash.end());
  for (Numbers* const line : {&lines.vertical, &lines.slash})
    for (double& x : *line) x /= static_cast<double>(block);
  return lines;
}

/// So many of the largest entries stay within `share`, and one more.
int64_t count_within(Numbers entries, double share) {
  std::sort(entries.begin(), entries.end(), std::greater<>());
  double sum = 0;
  int64_t count = 0;
  for (const double entry : entries) {
    sum += entry;
    if (sum > share) break;
    ++count;
  }
  return count + 1;
}

Numbers block_sums(const Numbers& x, int64_t block) {
  Numbers sums(index(blocks_of(static_cast<int64_t>(x.size()), block)), 0.0);
  for (size_t i = 0; i < x.size(); ++i) sums[i / index(block)] += x[i];
  return sums;
}

double divergence(const Numbers& p, const Numbers& q) {
  const auto term = [](double a, double mean) { return a > 0 ? a * std::log(a / mean) : 0.0; };
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double mean = (p[i] + q[i]) / 2;
    sum += (term(p[i], mean) + term(q[i], mean)) / 2;
  }
  return std::sqrt(std::max(0.0, sum));
}

/// The indices of the largest entries, the first one's among them whatever it is.
std::vector<int64_t> largest(Numbers entries, int64_t count) {
  entries.front() = std::numeric_limits<double>::infinity();
  std::vector<int64_t> order(entries.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return entries[index(a)] > entries[index(b)]; });
  order.resize(index(std::min(count, static_cast<int64_t>(entries.size()))));
  return order;
}

/// Which blocks of keys each block of queries sees; `first`: the block that the first queries are.
class Choice {
 public:
  Choice(int64_t queries, int64_t keys) : first_(keys - queries), keys_(keys), kept_(index(queries * keys), false) {}

  void keep(int64_t query, int64_t key) {
    if (key >= 0 && key <= first_ + query) kept_[index(query * keys_ + key)] = true;
  }
  void keep_column(int64_t key) {
    for (int64_t r = 0; r < queries(); ++r) keep(r, key);
  }
  void keep_diagonal(int64_t distance) {
    for (int64_t r = 0; r < queries(); ++r) keep(r, first_ + r - distance);
  }
  void keep_all() {
    for (int64_t c = 0; c < keys_; ++c) keep_column(c);
  }
  std::vector<std::vector<int32_t>> lists() const {
    std::vector<std::vector<int32_t>> all(index(queries()));
    for (int64_t r = 0; r < queries(); ++r)
      for (int64_t c = 0; c < keys_; ++c)
        if (kept_[index(r * keys_ + c)]) all[index(r)].push_back(static_cast<int32_t>(c));
    return all;
  }
  int64_t queries() const { return keys_ - first_; }

 private:
  int64_t first_, keys_;
  std::vector<bool> kept_;
};

/// Of a query-aware head, beside its lines.
void keep_by_query(const at::Tensor& q, const at::Tensor& mean_keys, double scale, const FlexSearch& search,
                   Choice& choice) {
  at::Tensor scores = at::matmul(block_means(q, search.block), mean_keys.t()).mul_(scale);
  const int64_t rows = scores.size(0), columns = scores.size(1);
  const at::Tensor later = at::ones({rows, columns}, at::kBool).triu_(columns - rows + 1);
  scores.masked_fill_(later, -std::numeric_limits<double>::infinity());
  const Numbers weight = numbers(at::softmax(scores, 1));
  std::vector<int64_t> order(weight.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return weight[index(a)] > weight[index(b)]; });
  double sum = 0;
  for (const int64_t at : order) {
    sum += weight[index(at)];
    if (sum > search.gamma * static_cast<double>(rows)) break;
    choice.keep(at / columns, at % columns);
  }
}

bool keeps_all(int64_t queries, int64_t keys, const FlexSearch& search) {
  const int64_t block = search.block;
  return search.gamma >= 1 || queries <= 2 * block ||
         keys <= std::max(2 * block, block * blocks_of(search.min_budget, block));
}

/// A head's queries of one block over the keys that they see, gathered, into `out` [rows,1,D].
void attend(const kernels::AttentionInputs& head, int64_t first_depth, const std::vector<int32_t>& seen, int64_t block,
            double scale, at::Tensor out) {
  const int64_t keys = head.k.size(0);
  std::vector<at::Tensor> k, v, row;
  for (size_t begin = 0, end = 0; begin < seen.size(); begin = end) {
    for (end = begin + 1; end < seen.size() && seen[end] == seen[end - 1] + 1;) ++end;
    const int64_t from = seen[begin] * block, count = std::min(keys, (seen[end - 1] + 1) * block) - from;
    k.push_back(head.k.narrow(0, from, count)), v.push_back(head.v.narrow(0, from, count));
    row.push_back(at::arange(from, from + count, at::kInt));
  }
  const at::Tensor k_row = at::cat(row);
  const AttentionMask mask{at::arange(first_depth, first_depth + head.q.size(0), at::kInt), k_row,
                           at::full_like(k_row, keys)};
  const AttentionOptions options{.scale = scale, .rounded = true};
  out.copy_(partial_attention({head.q, at::cat(k), at::cat(v)}, mask, options).out);
}

/// The same as attend, block after block of every head.
void attend_to_blocks(const kernels::AttentionInputs& in, const std::vector<KeyBlocks>& chosen, int64_t block,
                      double scale, at::Tensor& out) {
  const auto& [q, k, v] = in;
  const int64_t rows = q.size(0), heads = q.size(1), group = heads / k.size(1), first = k.size(0) - rows;
  const int64_t blocks = blocks_of(rows, block);
  at::parallel_for(0, heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard on_this_thread;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t h = task / blocks, r = task % blocks, at = r * block;
      const int64_t count = std::min(block, rows - at);
      const auto of_head = [](const at::Tensor& x, int64_t head) { return x.narrow(1, head, 1); };
      attend({of_head(q, h).narrow(0, at, count), of_head(k, h / group), of_head(v, h / group)}, first + at,
             chosen[index(h)].seen[index(r)], block, scale, of_head(out, h).narrow(0, at, count));
    }
  });
}

/// Blocks as panels of the blocked kernels, of which each is a whole number.
kernels::KeptPanels panels_of(const std::vector<KeyBlocks>& chosen, int64_t keys, int64_t block) {
  kernels::KeptPanels kept{.block = block, .panel = {}};
  const int64_t all = blocks_of(keys, kernels::kPanelKeys), of_block = block / kernels::kPanelKeys;
  for (const KeyBlocks& head : chosen)
    for (const std::vector<int32_t>& seen : head.seen) {
      std::vector<int32_t>& panels = kept.panel.emplace_back();
      for (const int32_t c : seen)
        for (int64_t p = c * of_block; p < std::min((c + 1) * of_block, all); ++p)
          panels.push_back(static_cast<int32_t>(p));
    }
  return kept;
}

}  // namespace

KeyBlocks find_key_blocks(const at::Tensor& q, const at::Tensor& k, double scale, const FlexSearch& search) {
  const int64_t queries = q.size(0), keys = k.size(0), block = search.block;
  check((keys - queries) % block == 0, "a window of ", queries, " rows behind ", keys - queries,
        " does not begin with a block of ", block);
  Choice choice(blocks_of(queries, block), blocks_of(keys, block));
  if (keeps_all(queries, keys, search)) {
    choice.keep_all();
    return {choice.lists(), false};
  }
  const at::Tensor wide_q = wide(q), wide_k = wide(k);
  const Lines lines = lines_of(wide_q, wide_k, scale, block);
  const Numbers vertical = block_sums(lines.vertical, block), slash = block_sums(lines.slash, block);
  const at::Tensor mean_keys = block_means(wide_k, block);
  const at::Tensor mean_query = wide_q.narrow(0, queries - block, block).mean(0);
  const Numbers estimate = numbers(at::softmax(at::matmul(mean_keys, mean_query).mul_(scale), 0));
  const bool is_query_aware = divergence(estimate, vertical) < search.tau;
  const int64_t least = std::max<int64_t>(1, blocks_of(search.min_budget, block));
  const int64_t most = search.max_budget == 0 ? blocks_of(keys, block) : blocks_of(search.max_budget, block);
  const auto lines_kept = [&](const Numbers& line) {
    if (is_query_aware) return least;
    return std::min(std::max(count_within(line, search.gamma) / block + 1, least), std::max(least, most));
  };
  for (const int64_t c : largest(vertical, lines_kept(lines.vertical))) choice.keep_column(c);
  for (const int64_t d : largest(slash, lines_kept(lines.slash))) choice.keep_diagonal(d);
  if (is_query_aware) keep_by_query(wide_q, mean_keys, scale, search, choice);
  return {choice.lists(), is_query_aware};
}

at::Tensor flex_prefill(const kernels::AttentionInputs& in, double scale, const FlexSearch& search, FlexArea& area) {
  const auto& [q, k, v] = in;
  check(q.is_cpu(), "flex_prefill computes on the CPU only");
  const at::NoGradGuard no_grad;
  const auto start = Clock::now();
  const int64_t rows = q.size(0), heads = q.size(1), group = heads / k.size(1), first = k.size(0) - rows;
  std::vector<KeyBlocks> chosen(index(heads));
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard on_this_thread;
    for (int64_t h = begin; h < end; ++h)
      chosen[index(h)] = find_key_blocks(q.select(1, h), k.select(1, h / group), scale, search);
  });
  for (const KeyBlocks& head : chosen)
    for (const auto& seen : head.seen) area.kept += static_cast<int64_t>(seen.size());
  for (int64_t r = 0; r < blocks_of(rows, search.block); ++r) area.all += heads * (first / search.block + r + 1);
  area.search_seconds += seconds_since(start);

  const kernels::BlockedKernel* kernel = kernels::best_blocked_kernel(q.scalar_type(), q.size(2));
  if (kernel != nullptr && search.block % kernels::kPanelKeys == 0) {
    const AttentionMask causal{at::arange(first, first + rows, at::kInt), at::arange(first + rows, at::kInt),
                               at::full({first + rows}, first + rows, at::kInt)};
    return kernels::blocked_attention_of_panels(in, causal, panels_of(chosen, first + rows, search.block), scale,
                                                *kernel);
  }
  at::Tensor out = at::empty_like(q);
  attend_to_blocks(in, chosen, search.block, scale, out);
  return out;
}

}  // namespace fpdist::ops
