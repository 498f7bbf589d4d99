// Forward and backward of one GRPO group, shared in one pack against every sample alone in its own: what sharing buys
// of what it could.
//   step_bench --prefix 1024 --completion 128 --group 8 [--arm shared|alone|chain] [--repeats 5] [--threads 2]
// Prints one JSON line an arm with the median seconds. `bound` is the ratio of floating point operations alone /
// shared: without the head (linear and attention only), and with it. bench/step_speed.py pairs this with PyTorch in one
// run.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <chrono>
#include <iostream>

#include "fpdist/core/rng.hpp"
#include "fpdist/fpdist.hpp"
#include "fpdist/prefix/forest.hpp"

namespace {

using namespace fpdist;
namespace po = boost::program_options;

struct Shape {
  int64_t prefix, completion, group;
};

data::Group make_group(const Shape& shape, int64_t vocab) {
  Rng rng(1);
  const auto draw = [&](int64_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
    return tokens;
  };
  data::Group group;
  const std::vector<int32_t> prompt = draw(shape.prefix);
  for (int64_t g = 0; g < shape.group; ++g) {
    data::Sample sample;
    sample.token = prompt;
    sample.target.assign(prompt.size(), data::kIgnore);
    sample.prompt_length = static_cast<int32_t>(prompt.size());
    for (int32_t token : draw(shape.completion)) sample.token.push_back(token), sample.target.push_back(token);
    sample.advantage = g % 2 ? 1.0 : -1.0;
    group.sample.push_back(std::move(sample));
  }
  return group;
}

/// 8 layers x hidden 512, 8/4 heads x 64, vocabulary 8192.
model::ModelConfig bench_model() {
  model::ModelConfig config;
  config.vocab_size = 8192, config.hidden_size = 512, config.intermediate_size = 1536, config.num_hidden_layers = 8;
  config.num_attention_heads = 8, config.num_key_value_heads = 4, config.head_dim = 64;
  config.max_position_embeddings = 65536;
  return config;
}

plan::ParallelOptions one_rank() {
  plan::ParallelOptions options;
  options.dp = 1;
  return options;
}

class Bench {
 public:
  explicit Bench(const Shape& shape)
      : shape_(shape),
        config_(bench_model()),
        group_(make_group(shape, config_.vocab_size)),
        model_(config_, {}),
        flat_(model_.parameters()),
        loss_(loss::make_loss(Method::kGrpo, {.beta = 0.0})) {
    model_.initialize(1);
  }

  /// Packs of one pass; `share` false: chains in packs of at most `max_tokens` rows.
  double seconds(bool share, int64_t max_tokens, int repeats) {
    const std::vector<data::Group> groups{group_};
    const plan::StepPlan plan =
        plan::make_step_plan(groups, Method::kGrpo, one_rank(), plan::stage_costs(config_.shape()),
                             {.max_tokens = max_tokens, .share_prefix = share});
    std::vector<double> times;
    for (int r = 0; r <= repeats; ++r) {  // the first is a warm-up
      const auto start = std::chrono::steady_clock::now();
      flat_.zero_gradients();
      for (const plan::PackPlan& pack : plan.replica[0]) run(pack, plan.totals, share);
      times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(times.begin() + 1, times.end());
    return times[1 + static_cast<size_t>(repeats) / 2];
  }

  /// alone / shared in floating point operations: linear layers and attention, and the head of `edges` targets.
  double bound(bool with_head) const {
    const plan::CostTable costs = plan::forward_cost(plan::stage_costs(config_.shape()));
    const auto operations = [&](bool share) {
      std::vector<prefix::TokenSpan> spans;
      for (const data::Sample& sample : group_.sample) spans.emplace_back(sample.token);
      const prefix::Forest forest = prefix::make_forest(spans, share);
      const int64_t edges = with_head ? shape_.group * shape_.completion : 0;
      return static_cast<double>(costs.cost(forest.tokens(), forest.visible_pairs(), edges));
    };
    return operations(false) / operations(true);
  }

 private:
  void run(const plan::PackPlan& plan, const plan::StepTotals& totals, bool share) {
    std::vector<prefix::PackMember> members;
    std::vector<double> length, advantage;
    for (const plan::MemberRef& ref : plan.member) {
      const data::Sample& sample = group_.sample[static_cast<size_t>(ref.index)];
      members.push_back({0, ref.index, &sample});
      length.push_back(static_cast<double>(shape_.completion)), advantage.push_back(*sample.advantage);
    }
    const parallel::PackTensors tensors = parallel::make_pack_tensors(prefix::make_layout(members, share));
    const at::Tensor hidden = model_.forward(0, tensors, {});
    const ops::SelectedLogprob head = model_.logprobs(hidden, tensors);
    loss::Edges edges;
    edges.logp = head.logp.index_select(0, tensors.edge_score);
    edges.entropy = head.entropy.detach().index_select(0, tensors.score_row).index_select(0, tensors.edge_score);
    edges.correct = at::zeros_like(edges.entropy);
    edges.sample = tensors.edge_sample;
    edges.length = at::tensor(length, at::kFloat), edges.advantage = at::tensor(advantage, at::kFloat);
    loss_(edges, totals).loss.backward();
    model_.backward_input(0, hidden.grad());
    flat_.fold_gradients();
  }

  Shape shape_;
  model::ModelConfig config_;
  data::Group group_;
  model::Transformer model_;
  ops::FlatParameters flat_;
  loss::LossFunction loss_;
};

}  // namespace

int main(int argc, char** argv) {
  Shape shape{};
  int repeats, threads;
  std::string arm;
  po::options_description options;
  options.add_options()("prefix", po::value(&shape.prefix)->default_value(1024))(
      "completion", po::value(&shape.completion)->default_value(128))(
      "group", po::value(&shape.group)->default_value(8))("arm", po::value(&arm)->default_value("both"),
                                                          "shared | alone | both")(
      "repeats", po::value(&repeats)->default_value(5))("threads", po::value(&threads)->default_value(2));
  po::variables_map values;
  po::store(po::parse_command_line(argc, argv, options), values);
  po::notify(values);
  at::set_num_threads(threads);
  Bench bench(shape);
  const auto print = [&](const char* name, bool share) {
    std::cout << "{\"arm\": \"" << name
              << "\", \"seconds\": " << bench.seconds(share, share ? 16384 : shape.prefix + shape.completion, repeats)
              << ", \"bound\": " << bench.bound(false) << ", \"bound_with_head\": " << bench.bound(true) << "}"
              << std::endl;
  };
  if (arm != "alone") print("shared", true);
  if (arm != "shared") print("alone", false);
}
