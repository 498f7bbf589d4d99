// Attention over a tree split across the 8 ranks of a cp axis, on thread ranks of this process: what travels and what
// stays in memory, measured beside what was planned.
//   context_parallel [--part traffic|memory|all] [--prefix 32768] [--leaf 1024] [--cp_method auto]
//
// traffic: bytes that a rank sends in one layer, forward and backward, for ring, group-cast, Ulysses and the planner's
//   own choice on the design's trees A to F, with all lengths and the chunk divided by 16. Measured: Communicator::
//   traffic() of the two communicators that attention uses, keys (K, V and exchanged heads) and gradients (dK, dV).
//   Planned: plan::predict_traffic. All ranks must agree to the byte.
// memory: a prefix with 8 leaves through a model (preset tiny with 2 layers, float32) on 8 ranks and on one. Counted
// are
//   the bytes of all CPU tensors a rank allocates from the start of forward on:
//     kept: alive after forward: q, k, v, out and log-sum-exp of each attention and all other activations that backward
//           needs, and the hidden rows returned. The worst rank must hold at most 1.15 / 8 of the single rank's.
//     peak: most alive at any time in forward and backward: with the keys of the rounds under way, and gradients.
//   Reported apart: index tensors, made once a pack. Not counted: weights and their gradients, which cp does not split.
// Exits with 1 when a figure is not as it must be.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <iomanip>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/counting_allocator.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/model/transformer.hpp"
#include "src/core/clock.hpp"
#include "src/core/words.hpp"
#include "src/parallel/context/context_attention.hpp"
#include "tests/support/plan/context_trees.hpp"

namespace {

using namespace fpdist;
namespace po = boost::program_options;

constexpr int kRanks = 8, kScale = 16;
constexpr double kMemoryLimit = 1.15;
constexpr plan::CpHeads kHeads{.query = 16, .key = 8, .dim = 4};
constexpr int64_t kItem = 4;  // float32 everywhere, sums as well

plan::CpCosts costs_of(const plan::CpHeads& heads) {
  const int64_t key = 2 * heads.key * heads.dim;
  return {.key_bytes = key * kItem, .head_bytes = (key + 2 * heads.query * heads.dim) * kItem, .max_ulysses = kRanks};
}

/// The same tree with every node a 16th as long.
std::vector<prefix::Node> scaled(const std::vector<prefix::Node>& node) {
  std::vector<prefix::Node> small;
  for (const prefix::Node& one : node) test::add_node(small, one.parent, std::max(1, (one.end - one.begin) / kScale));
  return small;
}

/// What one rank sent in a layer: bytes forward, backward in key messages and head exchanges, backward in gradients.
struct Sent {
  int64_t forward = 0, backward = 0, gradients = 0;
  bool operator==(const Sent&) const = default;
};

std::vector<Sent> planned(const plan::CpPlan& plan) {
  const plan::CpTraffic traffic = plan::predict_traffic(plan, kHeads);
  std::vector<Sent> sent;
  for (size_t rank = 0; rank < kRanks; ++rank)
    sent.push_back({kItem * traffic.forward_sent(rank),
                    kItem * (traffic.backward_sent(rank) - traffic.gradients_sent[rank]),
                    kItem * traffic.gradients_sent[rank]});
  return sent;
}

std::vector<Sent> measured(const plan::CpPlan& plan, const std::vector<int32_t>& end) {
  std::vector<Sent> sent(kRanks);
  comm::run_threads(kRanks, [&](comm::World& world) {
    const auto rank = static_cast<size_t>(world.rank());
    const auto keys = world.communicator().split("cp", 0, world.rank());
    const auto gradients = world.communicator().split("cp_gradient", 0, world.rank());
    const auto exchange =
        std::make_shared<const parallel::ContextExchange>(std::span(&plan, 1), end, *keys, *gradients);
    int64_t rows = 0;
    for (const plan::RowRange& range : plan.rank_rows[rank]) rows += range.size();
    const auto draw = [&](int64_t heads) { return at::randn({rows, heads, kHeads.dim}).set_requires_grad(true); };
    const at::Tensor q = draw(kHeads.query), k = draw(kHeads.key), v = draw(kHeads.key);
    const int64_t before = keys->traffic().bytes;
    const at::Tensor out = parallel::context_attention({q, k, v}, exchange, {.scale = 0.5});
    const int64_t between = keys->traffic().bytes;
    out.backward(at::ones_like(out));
    sent[rank] = {between - before, keys->traffic().bytes - between, gradients->traffic().bytes};
  });
  return sent;
}

bool compare_traffic(const test::NamedTree& tree, plan::CpMethod method) {
  const std::vector<prefix::Node> node = scaled(tree.node);
  plan::ParallelOptions options;
  options.cp = kRanks, options.cp_chunk = 256 / kScale, options.cp_method = method;
  const plan::CpPlan plan = plan::plan_context(node, options, costs_of(kHeads));
  const std::vector<Sent> wanted = planned(plan), got = measured(plan, test::row_ends(node));
  const auto worst = [](const std::vector<Sent>& sent, auto part) {
    int64_t most = 0;
    for (const Sent& one : sent) most = std::max(most, part(one));
    return most;
  };
  const auto forward = [](const Sent& one) { return one.forward; };
  const auto backward = [](const Sent& one) { return one.backward + one.gradients; };
  std::cout << std::left << std::setw(26) << tree.name << std::setw(10) << plan::name_of(method) << std::right
            << std::setw(3) << plan.ulysses << std::setw(4) << plan.round.front().size() << std::setw(11)
            << worst(wanted, forward) << std::setw(11) << worst(got, forward) << std::setw(12)
            << worst(wanted, backward) << std::setw(12) << worst(got, backward) << "  "
            << (got == wanted ? "equal" : "DIFFERENT") << std::endl;
  return got == wanted;
}

bool traffic_part() {
  std::cout
      << "Bytes that the worst of " << kRanks << " cp ranks sends in one layer; lengths and chunk / " << kScale << "; "
      << kHeads.query << " query and " << kHeads.key << " key-value heads x " << kHeads.dim
      << ", float32. U: ranks that exchange heads; rd: rounds.\n\n"
      << "tree (before the division) method     U  rd  fwd planned   measured bwd planned    measured  all ranks\n";
  bool good = true;
  for (const test::NamedTree& tree : test::design_trees())
    for (const plan::CpMethod method :
         {plan::CpMethod::kRing, plan::CpMethod::kGroupCast, plan::CpMethod::kUlysses, plan::CpMethod::kAuto})
      good = compare_traffic(tree, method) && good;
  return good;
}

/// A prompt with 8 completions, every completion token a target.
prefix::TreeLayout long_tree(int32_t prefix_rows, int32_t leaf_rows, int64_t vocabulary) {
  Rng rng(1);
  const auto draw = [&](int32_t count, std::vector<int32_t>& to) {
    for (int32_t i = 0; i < count; ++i)
      to.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocabulary))));
  };
  data::Sample prompt;
  draw(prefix_rows, prompt.token);
  std::vector<data::Sample> samples(8, prompt);
  std::vector<prefix::PackMember> members;
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].token.push_back(static_cast<int32_t>(i));  // leaves part at their first token
    draw(leaf_rows - 1, samples[i].token);
    samples[i].target = samples[i].token;
    std::fill_n(samples[i].target.begin(), prefix_rows, data::kIgnore);
    members.push_back({0, static_cast<int32_t>(i), &samples[i]});
  }
  return prefix::make_layout(members);
}

struct Memory {
  int64_t rows = 0, index = 0, kept = 0, peak = 0;  // bytes
  double seconds = 0;
};

/// One rank's way through forward and backward. `plan` null: all rows are here.
Memory measure(comm::World& world, const prefix::TreeLayout& layout, const plan::CpPlan* plan,
               const arch::Model& config, bench::ByteCounter& counter) {
  model::Transformer model(config, {});
  model.initialize(0);
  const auto keys = world.communicator().split("cp", 0, world.rank());
  const auto gradients = world.communicator().split("cp_gradient", 0, world.rank());
  bench::thread_counter() = &counter;
  Memory memory;
  {
    const std::span<const plan::CpPlan> slices(plan, plan == nullptr ? 0 : 1);
    parallel::RowsHere rows =
        parallel::make_pack_tensors(layout, {.slices = slices, .cp_rank = world.rank()}).slice.front().rows;
    if (plan != nullptr)
      rows.exchange = std::make_shared<parallel::ContextExchange>(slices, layout.subtree_end, *keys, *gradients);
    memory.rows = rows.own_rows(0), memory.index = counter.live();
    world.communicator().barrier();
    counter.restart();
    const auto start = Clock::now();
    const at::Tensor hidden = model.forward(0, rows, {});
    memory.kept = counter.live() - memory.index;
    model.backward_input(0, at::ones_like(hidden));
    memory.seconds = seconds_since(start);
    memory.peak = counter.peak() - memory.index;
  }
  bench::thread_counter() = nullptr;
  return memory;
}

/// The largest of each figure over `ranks` ranks.
Memory worst_of(int ranks, const prefix::TreeLayout& layout, const arch::Model& config, plan::CpMethod method) {
  plan::ParallelOptions options;
  options.cp = ranks, options.cp_method = method;
  const arch::ModelShape shape = config.shape();
  const plan::CpHeads heads{shape.heads, shape.kv_heads, shape.head_dim};
  plan::CpCosts costs = costs_of(heads);
  costs.max_ulysses = static_cast<int>(heads.key);
  const plan::CpPlan plan = plan::plan_context(layout.node, options, costs);
  std::vector<Memory> all(static_cast<size_t>(ranks));
  std::vector<bench::ByteCounter> counter(static_cast<size_t>(ranks));
  comm::run_threads(ranks, [&](comm::World& world) {
    const auto rank = static_cast<size_t>(world.rank());
    all[rank] = measure(world, layout, ranks == 1 ? nullptr : &plan, config, counter[rank]);
  });
  Memory worst;
  for (const Memory& one : all) {
    worst.rows = std::max(worst.rows, one.rows), worst.index = std::max(worst.index, one.index);
    worst.kept = std::max(worst.kept, one.kept), worst.peak = std::max(worst.peak, one.peak);
    worst.seconds = std::max(worst.seconds, one.seconds);
  }
  return worst;
}

bool memory_part(int32_t prefix_rows, int32_t leaf_rows, plan::CpMethod method) {
  arch::Model config = arch::preset_config("tiny");
  config.layers.resize(2);
  const arch::ModelShape shape = config.shape();
  const prefix::TreeLayout layout = long_tree(prefix_rows, leaf_rows, config.vocab_size);
  std::cout << "A prefix of " << prefix_rows << " rows and 8 leaves of " << leaf_rows << " through " << shape.layers
            << " layers x hidden " << shape.hidden << ", " << shape.heads << "/" << shape.kv_heads << " heads x "
            << shape.head_dim << ", float32; cp_method " << plan::name_of(method)
            << "; worst rank, MiB. Forward and backward, seconds.\n\n"
            << "ranks    rows    kept    peak   index  seconds\n";
  std::vector<Memory> found;
  for (const int ranks : {1, kRanks}) {
    const Memory& memory = found.emplace_back(worst_of(ranks, layout, config, method));
    std::cout << std::setw(5) << ranks << std::setw(8) << memory.rows << std::fixed << std::setprecision(1)
              << std::setw(8) << in_mib(memory.kept) << std::setw(8) << in_mib(memory.peak) << std::setw(8)
              << in_mib(memory.index) << std::setw(9) << memory.seconds << std::endl;
  }
  const auto share = [&](int64_t Memory::*figure) {
    return kRanks * static_cast<double>(found[1].*figure) / static_cast<double>(found[0].*figure);
  };
  std::cout << std::setprecision(3) << "\n8 x worst of 8 ranks / one rank: rows " << share(&Memory::rows) << ", kept "
            << share(&Memory::kept) << " (limit " << kMemoryLimit << "), peak " << share(&Memory::peak) << "\n";
  return share(&Memory::kept) <= kMemoryLimit;
}

}  // namespace

int main(int argc, char** argv) {
  std::string part, method_name;
  plan::CpMethod method{};
  int32_t prefix_rows, leaf_rows;
  po::options_description options("context_parallel");
  options.add_options()("help", "this text")("part", po::value(&part)->default_value("all"), "traffic, memory or all")(
      "prefix", po::value(&prefix_rows)->default_value(32768), "rows of the prefix in the memory part")(
      "leaf", po::value(&leaf_rows)->default_value(1024), "rows of each of its 8 leaves")(
      "cp_method", po::value(&method_name)->default_value("auto"), "how keys travel in the memory part");
  po::variables_map values;
  try {
    po::store(po::parse_command_line(argc, argv, options), values);
    po::notify(values);
    check<ConfigError>(part == "all" || part == "traffic" || part == "memory", "--part is traffic, memory or all");
    check<ConfigError>(prefix_rows >= 1 && leaf_rows >= 1, "--prefix and --leaf are 1 or more");
    method = plan::cp_method_from_name(method_name);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "; see context_parallel --help\n";
    return 2;
  }
  if (values.count("help")) {
    std::cout << options;
    return 0;
  }
  static bench::CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, 255);
  at::set_num_threads(1);
  bool good = true;
  if (part != "memory") good = traffic_part();
  if (part == "all") std::cout << "\n";
  if (part != "traffic") good = memory_part(prefix_rows, leaf_rows, method) && good;
  return good ? 0 : 1;
}
