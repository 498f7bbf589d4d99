#pragma once
// Tests: a random optimizer step as the losses see it, cut into packs in any way.

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/loss/loss.hpp"

namespace fpdist::test {

/// A loss under test.
struct Variant {
  std::string name;
  Method method;
  loss::LossOptions options;
};

/// The GRPO loss of that name at both levels, with and without the reference.
inline std::vector<Variant> grpo_variants(const std::string& type) {
  std::vector<Variant> variants;
  for (const char* level : {"token", "sequence"})
    for (const double beta : {0.0, 0.1})
      for (const bool corrected : {true, false}) {
        if (beta == 0 && !corrected) continue;
        const bool is_like_another = type == "bnpo" || type == "luspo" || type == "sapo" || type == "cispo";
        if (is_like_another && (beta == 0 || !corrected)) continue;
        loss::LossOptions options;
        options.loss_type = {type};
        options.importance_sampling_level = level;
        options.beta = beta;
        options.use_bias_correction_kl = corrected;
        options.epsilon_high = type == "cispo" ? 1.1 : 0.28;
        options.max_completion_length = 9;
        variants.push_back(
            {type + "/" + level + (beta > 0 ? "/kl" : "") + (corrected ? "" : "/plain"), Method::kGrpo, options});
      }
  return variants;
}

/// Options that change what the losses of a method are.
inline std::vector<Variant> optional_variants() {
  using Options = loss::LossOptions;
  return {
      {"dpo/list", Method::kDpo, Options{.loss_type = {"sigmoid", "aot", "sft"}, .loss_weights = {0.8, 0.3, 1.0}}},
      {"dpo/ld", Method::kDpo, Options{.loss_type = {"aot_unpaired"}, .label_smoothing = 0.1, .ld_alpha = 0.3}},
      {"dpo/wpo", Method::kDpo, Options{.use_weighting = true}},
      {"dpo/forward_kl", Method::kDpo, Options{.f_divergence_type = "forward_kl"}},
      {"dpo/js", Method::kDpo, Options{.f_divergence_type = "js_divergence"}},
      {"dpo/alpha", Method::kDpo, Options{.f_divergence_type = "alpha_divergence"}},
      {"cpo/kl", Method::kCpo, Options{.loss_type = {"comparative"}, .kl_weight = 0.3}},
      {"cpo/alpha", Method::kCpo, Options{.loss_type = {"simpo"}, .label_smoothing = 0.1, .alpha = 0.3}},
      {"grpo/top", Method::kGrpo, Options{.beta = 0.1, .top_entropy_quantile = 0.4, .entropy_coef = 0.05}},
      {"grpo/delta", Method::kGrpo, Options{.epsilon_high = 0.28, .delta = 1.4, .entropy_coef = 0.05}},
      {"grpo/prefix", Method::kGrpo, Options{.beta = 0.1, .prefix_advantage = "dr_grpo", .prefix_entropy_keep = 0.4}},
      {"grpo/prefix_of_sample", Method::kGrpo,
       Options{.loss_type = {"dr_grpo"},
               .prefix_advantage = "batch",
               .prefix_entropy_keep = 0.5,
               .prefix_entropy_scope = "sample",
               .clip_prefix = true}},
      {"grpo/opsm", Method::kGrpo, Options{.off_policy_mask_threshold = 0.1}}};
}

/// Every loss that is registered, and some with options.
inline std::vector<Variant> all_variants() {
  std::vector<Variant> variants = optional_variants();
  for (const loss::LossSpec& spec : loss::specs()) {
    const std::string name(spec.name);
    if (spec.method == Method::kGrpo) {
      for (Variant& variant : grpo_variants(name)) variants.push_back(std::move(variant));
    } else {
      loss::LossOptions options{.loss_type = {name}, .center_rewards_coefficient = 0.3};
      if (name == "exo_pair" || name == "robust") options.label_smoothing = 0.1;
      variants.push_back({std::string(name_of(spec.method)) + (name.empty() ? "" : "/" + name), spec.method, options});
    }
  }
  return variants;
}

/// Values of every edge and sample of a step. `logp` and `score` are the leaves that losses are differentiated by.
struct RandomStep {
  at::Tensor logp, score;                                       // [E], [B]
  at::Tensor entropy, correct, mean_logit, ref_logp, old_logp;  // [E]
  at::Tensor log_sum_sq, position;                              // [E], the first of a pair's first sample is -1
  at::Tensor advantage, margin, wanted;                         // [B], [B/2], [B]
  at::Tensor in_prefix, prefix_advantage;                       // [E], [B]
  std::vector<std::vector<int64_t>> edge_of;                    // edges of each sample
  plan::StepTotals totals;

  int64_t samples() const { return static_cast<int64_t>(edge_of.size()); }

  /// The pack that holds `sample` (indices into the step, in pack order; pairs stay together and in order).
  loss::Edges pack(const std::vector<int64_t>& sample) const {
    std::vector<int64_t> edge, edge_sample, pair;
    std::vector<double> length;
    for (size_t b = 0; b < sample.size(); ++b) {
      const std::vector<int64_t>& own = edge_of[static_cast<size_t>(sample[b])];
      edge.insert(edge.end(), own.begin(), own.end());
      edge_sample.insert(edge_sample.end(), own.size(), static_cast<int64_t>(b));
      length.push_back(static_cast<double>(own.size()));
      if (b % 2 == 0) pair.push_back(sample[b] / 2);
    }
    const at::Tensor e = at::tensor(edge, at::kLong), b = at::tensor(sample, at::kLong);
    loss::Edges edges{.logp = logp.index_select(0, e),
                      .entropy = entropy.index_select(0, e),
                      .correct = correct.index_select(0, e),
                      .mean_logit = mean_logit.index_select(0, e),
                      .ref_logp = ref_logp.index_select(0, e),
                      .old_logp = old_logp.defined() ? old_logp.index_select(0, e) : at::Tensor(),
                      .sample = at::tensor(edge_sample, at::kLong),
                      .length = at::tensor(length, at::kDouble).to(logp.dtype()),
                      .score = score.index_select(0, b),
                      .advantage = advantage.index_select(0, b),
                      .margin = margin.index_select(0, at::tensor(pair, at::kLong))};
    edges.log_sum_sq = log_sum_sq.index_select(0, e);
    edges.base_kl = edges.logp.square();  // some function of the policy
    edges.position = position.index_select(0, e);
    edges.wanted = wanted.index_select(0, b);
    edges.in_prefix = in_prefix.index_select(0, e);
    edges.prefix_advantage = prefix_advantage.index_select(0, b);
    edges.place = b;
    edges.first_edge = 0;
    return edges;
  }

  /// The same with what the loss takes down of the whole step.
  loss::Edges pack(const std::vector<int64_t>& sample, const Variant& variant) const {
    loss::Edges edges = pack(sample);
    const loss::Look look = loss::make_look(variant.method, variant.options);
    if (!look) return edges;
    loss::Edges whole = pack(everything());
    const loss::Needs needs = loss::needs_of(variant.method, variant.options);
    if (needs.step == loss::StepView::kMismatched) whole.logp = old_logp;  // of other samples: no gradient is missed
    edges.step = look(whole);
    if (!edges.step.edge.defined()) return edges;
    edges.step.ascending = std::get<0>(at::sort(edges.step.edge));
    edges.step.edge = at::cat({edges.entropy, edges.step.edge});  // the pack's own are where it looks for them
    return edges;
  }

  std::vector<int64_t> everything() const {
    std::vector<int64_t> all(edge_of.size());
    for (size_t b = 0; b < all.size(); ++b) all[b] = static_cast<int64_t>(b);
    return all;
  }
};

/// `pairs` groups of two samples with 0 to 7 edges each, ratios on both sides of the clip, advantages of both signs.
inline RandomStep random_step(uint64_t seed, int64_t pairs = 4, at::ScalarType dtype = at::kDouble) {
  Rng rng(seed, 0x105);
  RandomStep step;
  int64_t edges = 0;
  std::vector<int64_t> position;
  for (int64_t b = 0; b < 2 * pairs; ++b) {
    auto& own = step.edge_of.emplace_back();
    for (uint64_t count = rng.below(8); count > 0; --count) {
      position.push_back(static_cast<int64_t>(own.size()) - (b % 2 == 0));
      own.push_back(edges++);
    }
    step.totals.samples_with_edges += !own.empty();
    if (b % 2 == 0) step.totals.first_edges += static_cast<int64_t>(own.size());
  }
  step.totals.groups = pairs;
  step.totals.samples = 2 * pairs;
  step.totals.edges = edges;
  const auto normal = [&](int64_t size, double mean, double deviation) {
    std::vector<double> values;
    for (int64_t i = 0; i < size; ++i) values.push_back(mean + deviation * rng.normal());
    return at::tensor(values, at::kDouble).to(dtype);
  };
  step.logp = normal(edges, -3.0, 0.7).requires_grad_();
  step.score = normal(2 * pairs, 0.0, 1.0).requires_grad_();
  step.entropy = normal(edges, 2.0, 0.5);
  step.correct = normal(edges, 0.0, 1.0).gt(0).to(dtype);
  step.mean_logit = normal(edges, 0.1, 0.5);
  step.ref_logp = step.logp.detach() + normal(edges, 0.0, 0.5);
  step.old_logp = step.logp.detach() + normal(edges, 0.0, 0.5);
  step.advantage = normal(2 * pairs, 0.0, 1.0);
  step.margin = normal(pairs, 0.2, 0.3);
  step.position = at::tensor(position, at::kLong);
  step.log_sum_sq = normal(edges, -1.0, 0.3);
  step.wanted = normal(2 * pairs, 0.2, 1.0).gt(0).to(dtype);
  step.totals.wanted = step.wanted.sum().item<int64_t>();
  step.prefix_advantage = normal(2 * pairs, 0.0, 1.0);
  std::vector<double> in_prefix;
  for (const std::vector<int64_t>& own : step.edge_of) {
    const uint64_t first = rng.below(own.size() + 1);
    for (size_t e = 0; e < own.size(); ++e) in_prefix.push_back(e < first ? 1 : 0);
  }
  step.in_prefix = at::tensor(in_prefix, at::kDouble).to(dtype);
  return step;
}

/// Metric values of a whole step from the contributions of its packs.
class PackMetrics {
 public:
  void add(const std::map<std::string, loss::Metric>& metrics) {
    for (const auto& [name, metric] : metrics) {
      const double value = metric.value.item<double>();
      const auto [at, fresh] = sums_.try_emplace(name, Sum{metric.combine, value, 0.0});
      const bool is_extreme = metric.combine == loss::Combine::kMin || metric.combine == loss::Combine::kMax;
      if (metric.combine == loss::Combine::kMean) at->second.weight += metric.weight.item<double>();
      if (fresh) continue;
      double& sum = at->second.value;
      if (!is_extreme) sum += value;
      if (is_extreme) sum = metric.combine == loss::Combine::kMin ? std::min(sum, value) : std::max(sum, value);
    }
  }
  std::map<std::string, double> values() const {
    std::map<std::string, double> result;
    for (const auto& [name, sum] : sums_)
      result[name] = sum.combine != loss::Combine::kMean ? sum.value : sum.weight != 0 ? sum.value / sum.weight : 0.0;
    return result;
  }

 private:
  struct Sum {
    loss::Combine combine;
    double value, weight;
  };
  std::map<std::string, Sum> sums_;
};

}  // namespace fpdist::test
