// Attention over a tree of samples, alone: a prompt and three answers as one pack, against every sample by itself.
//   example_tree_attention
// Rows are the tokens of the tree in depth-first order; row i sees key j if and only if j <= i < subtree_end[j].

#include <ATen/ATen.h>

#include <cmath>
#include <iostream>
#include <vector>

#include "fpdist/ops/functional.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace {

using namespace fpdist;

constexpr int64_t kHeads = 2, kHeadSize = 8;
const double kScale = 1 / std::sqrt(double(kHeadSize));

/// What a layer hands to attention.
struct Inputs {
  at::Tensor q, k, v;  // [T,heads,size]
  std::vector<at::Tensor> gradients() const { return {q.grad(), k.grad(), v.grad()}; }
};

Inputs leaves(const at::Tensor& random) {
  const auto leaf = [&](int64_t i) { return random[i].clone().requires_grad_(); };
  return {leaf(0), leaf(1), leaf(2)};
}

/// Rows of the tree on the way to `last`: one sample's tokens.
at::Tensor path_to(int32_t last, const prefix::TreeLayout& layout) {
  std::vector<int64_t> rows;
  for (int32_t j = 0; j <= last; ++j)
    if (last < layout.subtree_end[static_cast<size_t>(j)]) rows.push_back(j);
  return at::tensor(rows, at::kLong);
}

/// The textbook's: softmax of q k^T under a causal mask, for one sample.
at::Tensor plain_attention(const Inputs& in, const at::Tensor& rows) {
  const auto heads_first = [&](const at::Tensor& x) { return x.index_select(0, rows).transpose(0, 1); };
  const at::Tensor weights = at::matmul(heads_first(in.q), heads_first(in.k).transpose(1, 2)) * kScale;
  const at::Tensor hidden = at::ones({rows.numel(), rows.numel()}, at::kBool).triu(1);
  return at::matmul(weights.masked_fill(hidden, -INFINITY).softmax(-1), heads_first(in.v)).transpose(0, 1);
}

}  // namespace

int main() {
  std::vector<data::Sample> samples(3);
  samples[0].token = {5, 6, 7, 8, 9, 20, 21};
  samples[1].token = {5, 6, 7, 8, 9, 20, 22, 23};
  samples[2].token = {5, 6, 7, 8, 9, 30};
  std::vector<prefix::PackMember> members;
  for (int32_t i = 0; i < 3; ++i) {
    samples[size_t(i)].target.assign(samples[size_t(i)].token.size(), data::kIgnore);
    members.push_back({.group = 0, .index = i, .sample = &samples[size_t(i)]});
  }
  const prefix::TreeLayout layout = prefix::make_layout(members);

  at::manual_seed(1);
  const at::Tensor random = at::randn({3, layout.rows(), kHeads, kHeadSize}, at::kDouble);
  const Inputs shared = leaves(random), alone = leaves(random);
  const at::Tensor row = at::arange(layout.rows(), at::kInt), end = at::tensor(layout.subtree_end, at::kInt);
  const at::Tensor out = ops::tree_attention({shared.q, shared.k, shared.v}, {row, row, end}, {.scale = kScale}).out;

  double difference = 0;
  const auto compare = [&](const at::Tensor& a, const at::Tensor& b) {
    difference = std::max(difference, (a - b).abs().max().item<double>());
  };
  for (const prefix::SampleRef& sample : layout.sample) {
    const at::Tensor rows = path_to(sample.last_row, layout), expected = plain_attention(alone, rows);
    compare(out.index_select(0, rows), expected);
    out.index_select(0, rows).sin().sum().backward({}, /*retain_graph=*/true);  // any loss, summed over the samples
    expected.sin().sum().backward();
  }
  for (size_t i = 0; i < 3; ++i) compare(shared.gradients()[i], alone.gradients()[i]);
  std::cout << "21 tokens of 3 samples in " << layout.rows()
            << " rows\noutputs and gradients of each sample alone: " << (difference < 1e-13 ? "the same" : "DIFFERENT")
            << ", by " << difference << '\n';
  return difference < 1e-13 ? 0 : 1;
}
