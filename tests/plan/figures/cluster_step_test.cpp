#include "src/plan/figures/cluster_step.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/random/random_lengths.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

const std::string kFile = FPDIST_SOURCE_DIR "/configs/clusters/h100-8.yaml";

TEST(Cluster, FilesAreReadAndWhatIsWrongIsNamed) {
  const Cluster cluster = read_cluster(kFile);
  EXPECT_EQ(cluster.gpus_per_node, 8);
  EXPECT_LT(cluster.linear_flops, cluster.peak_flops);
  const auto refusal = [](const std::string& text) {
    return test::refusal<ConfigError>([&] { parse_cluster(text, "c"); });
  };
  EXPECT_NE(refusal("gpus_per_node: 8\nflops: 3\n").find("c:2: unknown key 'flops': use gpus_per_node, peak_flops"),
            std::string::npos);
  EXPECT_EQ(refusal("gpus_per_node: -1\n"), "c:1: gpus_per_node is '-1': use a number above 0");
  EXPECT_EQ(refusal("peak_flops: fast\n"), "c:1: peak_flops is 'fast': use a number above 0");
  EXPECT_EQ(refusal("peak_flops: 1\npeak_flops: 2\n"), "c:2: 'peak_flops' is given twice");
  EXPECT_EQ(refusal("peak_flops\n"), "c:1: expected 'key: value'");
  EXPECT_EQ(refusal("gpus_per_node: 8\n"), "c: peak_flops is missing: configs/clusters/h100-8.yaml has all keys");
  EXPECT_NE(test::refusal<ConfigError>([] { read_cluster("nowhere.yaml"); }).find("check --cluster"),
            std::string::npos);
}

TEST(Cluster, CollectivesGoTheFasterWay) {
  Cluster cluster = read_cluster(kFile);
  EXPECT_EQ(place_of(cluster, 1, 4).inside, 4);
  EXPECT_EQ(place_of(cluster, 4, 16).inside, 2);
  EXPECT_EQ(place_of(cluster, 16, 4).inside, 1);
  EXPECT_EQ(gather_seconds(cluster, {1, 1}, 1e9), 0);
  EXPECT_DOUBLE_EQ(gather_seconds(cluster, {8, 8}, 1e9),
                   7.0 / 8 * 1e9 / cluster.node_bandwidth + 7 * cluster.node_latency);
  const double flat = 63.0 / 64 * 1e9 / cluster.network_bandwidth + 63 * cluster.network_latency;
  EXPECT_DOUBLE_EQ(gather_seconds(cluster, {64, 1}, 1e9), flat);
  const double levels = gather_seconds(cluster, {64, 8}, 1e9);
  EXPECT_LT(levels, flat / 3);
  EXPECT_GT(levels, gather_seconds(cluster, {8, 8}, 1e9));
  cluster.node_latency = 1;  // where nodes are slow inside, one ring is better
  EXPECT_DOUBLE_EQ(gather_seconds(cluster, {64, 8}, 1e9), flat);
  EXPECT_GT(message_seconds(cluster, {8, 4}, 1e6), message_seconds(read_cluster(kFile), {8, 8}, 1e6));
}

const ModelBytes kModel{.shape = {.layers = 16,
                                  .hidden = 2048,
                                  .intermediate = 8192,
                                  .heads = 32,
                                  .kv_heads = 8,
                                  .head_dim = 64,
                                  .vocab = 128256},
                        .value = 2,
                        .sum = 4};

TEST(ClusterStep, PartsAreTheSimulatedStepAndWhatFollowsIt) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 31);
    const LengthTree tree = test::random_lengths(rng, 40, 2000);
    ClusterJob job{read_cluster(kFile), kModel, {2, 4, 2, 2}};
    job.model.recompute = seed % 2 == 1;
    PlannerOptions options;
    options.replicas = 2, options.max_tokens = 16384, options.parallel.pp = 4;
    options.parallel.schedule = seed % 3 == 0 ? Schedule::kZeroBubble : Schedule::k1F1B;
    const PipelinePlan plan = plan_pipeline(tree, cluster_costs(job, tree.unique(), 256), options);
    const ClusterSeconds seconds = cluster_seconds(job, tree.unique(), 256, options, plan);
    const double simulated = static_cast<double>(plan.step) * unit_seconds(job);
    EXPECT_NEAR(seconds.all() - seconds.data - seconds.update, simulated, 1e-9 * simulated);
    EXPECT_GT(seconds.tensor, 0);
    EXPECT_GT(seconds.pipeline, 0);
    EXPECT_GE(seconds.bubble, 0);
    EXPECT_GE(seconds.context, 0);
    EXPECT_GE(seconds.all(), least_seconds(job, tree.unique(), 256));
    EXPECT_GE(seconds.compute, model_flops(job.model, tree.unique()) / (32 * job.cluster.peak_flops));
    const PlanFigures figures = figures_of(tree, cluster_costs(job, tree.unique(), 256), options, plan);
    EXPECT_GT(cluster_memory(job, plan, figures), least_memory(job, plan.layers));
  }
}

TEST(ClusterStep, MessagesCostWhatTheirLinksDo) {
  Rng rng(3, 31);
  const LengthTree tree = test::random_lengths(rng, 40, 2000);
  const auto seconds_on = [&](const MeshShape& mesh, double node_bandwidth, double network_bandwidth) {
    ClusterJob job{read_cluster(kFile), kModel, mesh};
    job.cluster.node_bandwidth = node_bandwidth, job.cluster.network_bandwidth = network_bandwidth;
    PlannerOptions options;
    options.replicas = mesh.dp, options.max_tokens = 32768, options.parallel.pp = mesh.pp;
    const PipelinePlan plan = plan_pipeline(tree, cluster_costs(job, tree.unique(), 256), options);
    return cluster_seconds(job, tree.unique(), 256, options, plan);
  };
  const ClusterSeconds fast = seconds_on({2, 1, 1, 4}, 370e9, 48e9), slow = seconds_on({2, 1, 1, 4}, 37e9, 48e9);
  EXPECT_NEAR(slow.tensor / fast.tensor, 10, 2);  // all but its latency
  EXPECT_EQ(largest_loss(slow), "tp");
  const ClusterSeconds near = seconds_on({8, 1, 1, 1}, 370e9, 48e9), far = seconds_on({16, 1, 1, 1}, 370e9, 1e9);
  EXPECT_GT(far.data, near.data);
  EXPECT_EQ(largest_loss(far), "dp");
  EXPECT_GT(seconds_on({1, 1, 8, 1}, 1e9, 48e9).context, 10 * seconds_on({1, 1, 8, 1}, 370e9, 48e9).context);
  EXPECT_GT(seconds_on({1, 8, 1, 2}, 370e9, 1e9).pipeline, seconds_on({1, 8, 1, 2}, 370e9, 48e9).pipeline);
}

TEST(ClusterStep, HeadsAreExchangedWhereKeysWouldNotHide) {
  ClusterJob job{read_cluster(kFile), kModel, {1, 1, 16, 1}};
  const LengthTree brief = parse_lengths("{\"prefix\": 0, \"completions\": [2000]}", "f");
  const LengthTree long_one = parse_lengths("{\"prefix\": 0, \"completions\": [2000000]}", "f");
  EXPECT_EQ(head_exchange(job, long_one.unique()), 1);
  ClusterJob alone = job;
  alone.mesh.cp = 1;
  EXPECT_EQ(cluster_costs(job, long_one.unique(), 0).per_row, cluster_costs(alone, long_one.unique(), 0).per_row);
  EXPECT_EQ(head_exchange(job, brief.unique()), 8);  // all key heads, inside a node
  job.cluster.node_bandwidth = 1e9;                  // inside nodes nothing is faster than between them
  EXPECT_EQ(head_exchange(job, long_one.unique()), 1);
  job.model.shape.kv_heads = 2;
  EXPECT_LE(head_exchange(job, brief.unique()), 2);
  job.model.shape.heads = job.model.shape.kv_heads = 16, job.mesh = {1, 1, 4, 1};
  // By hand, a node's four ranks: keys and gradients of 3/4 of the rows, or a quarter of all that a row has, both ways.
  const double pairs = 2001.0 / 2, row = 16 * 64;
  const auto keys = [&](double bytes, double flops, double rate) {
    return 3.0 / 4 * 2 * row * bytes / 1e9 - flops * row * pairs / (rate * 4);
  };
  const double by_keys =
      keys(2, 4, job.cluster.attention_forward_flops) + keys(2 + 4, 10, job.cluster.attention_backward_flops);
  const double by_heads = 2 * 3.0 / 4 * 4 * row * 2 / 4 / 1e9;
  EXPECT_LT(by_heads, by_keys);
  EXPECT_EQ(head_exchange(job, brief.unique()), 4);
  ClusterJob free = job;
  free.cluster.node_bandwidth = 1e30;
  const auto more = static_cast<double>(cluster_costs(job, brief.unique(), 0).per_row -
                                        cluster_costs(free, brief.unique(), 0).per_row);
  EXPECT_NEAR(more * unit_seconds(job) * 3, by_heads, 0.01 * by_heads);
  job.pack_rows = 64 * 2000;  // 64 of them in a pack: hardly any keys travel
  EXPECT_EQ(head_exchange(job, brief.unique()), 1);
  EXPECT_LT(cluster_costs(job, brief.unique(), 0).per_row - cluster_costs(free, brief.unique(), 0).per_row, more / 10);
}

/// G completions R on one prefix P: the table of what sharing can be worth at most, to its three digits.
TEST(ClusterStep, SharingIsWorthWhatTheFormulasSay) {
  const ModelBytes qwen{.shape = {.layers = 28,
                                  .hidden = 3584,
                                  .intermediate = 18944,
                                  .heads = 28,
                                  .kv_heads = 4,
                                  .head_dim = 128,
                                  .vocab = 152064}};
  for (const auto& [completions, prefix, response, bound] : {std::tuple{2, 1024, 1024, 1.327},
                                                             {2, 4096, 128, 1.938},
                                                             {2, 16384, 16384, 1.263},
                                                             {8, 4096, 1024, 3.22},
                                                             {8, 32768, 2048, 5.17},
                                                             {16, 16384, 1024, 7.78},
                                                             {32, 2048, 2048, 1.89}}) {
    std::string line = text("{\"prefix\": ", prefix, ", \"completions\": [", response);
    for (int i = 1; i < completions; ++i) line += text(", ", response);
    EXPECT_NEAR(sharing_bound(qwen, parse_lengths(line + "]}", "f")), bound, 0.006) << completions << " of " << prefix;
  }
}

}  // namespace
}  // namespace fpdist::plan
