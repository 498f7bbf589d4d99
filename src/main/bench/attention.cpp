// fpdist_bench attention: tree_attention by our own kernels (Hopper's or, with --sm 80, the portable ones) against the
// same by the levels' calls (FlashAttention 2, cuDNN or plain products), in turn in every round, so that a slow moment
// hits both. TFLOP/s count the area that the
// tree makes visible: 4 operations a pair and column forward, 10 backward, however often a kernel computes a score. A
// shape P,G,R is a prompt of P rows and G completions of R; P alone is one sequence. `difference` is how far ours is
// from the other's results: the largest difference over the largest element.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/tiled/tiled_attention.hpp"
#include "src/main/bench/bench.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;
using Tensors = std::vector<at::Tensor>;

struct AttentionBench {
  DeviceOption device;
  std::string json;
  std::vector<std::string> shapes = {"8192", "1024,8,1024", "4096,8,1024", "4096,2,512"};
  std::vector<std::string> heads = {"28,4,128", "32,8,128", "32,8,64"};
  int64_t rounds = 5, calls = 3, sm = 0;
};

/// A prompt and its completions, or a prompt alone.
struct Tree {
  int64_t prompt, completions = 0, length = 0;
  int64_t rows() const { return prompt + completions * length; }
  double pairs() const {
    const auto triangle = [](int64_t rows) { return 0.5 * static_cast<double>(rows) * static_cast<double>(rows + 1); };
    const double full = static_cast<double>(prompt) * static_cast<double>(completions * length);
    return triangle(prompt) + static_cast<double>(completions) * triangle(length) + full;
  }
  kernels::AttentionMask mask() const {
    const at::Tensor row = at::arange(rows(), at::kInt);
    at::Tensor end = at::full({rows()}, rows(), at::kInt);
    for (int64_t i = 0; i < completions; ++i)
      end.narrow(0, prompt + i * length, length).fill_(prompt + (i + 1) * length);
    return {row, row, end};
  }
};

Tree tree_of(const std::string& shape) {
  const std::vector<int64_t> sizes = numbers_of(shape, "shapes", shape.find(',') == std::string::npos ? 1 : 3);
  return sizes.size() == 1 ? Tree{sizes[0]} : Tree{sizes[0], sizes[1], sizes[2]};
}

struct AttentionCase {
  int64_t sm;  ///< whose kernels: a compute capability
  const char* pass;
  double operations;
  std::function<Tensors()> ours, others;
};

double difference_of(const Tensors& ours, const Tensors& others) {
  double worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const at::Tensor a = ours[i].to(at::kFloat), b = others[i].to(at::kFloat);
    const double largest = b.abs().max().item<double>(), apart = (a - b).abs().max().item<double>();
    // A NaN of either side stays one.
    worst = std::isnan(apart) ? apart : std::max(worst, apart / std::max(largest, 1e-30));
  }
  return worst;
}

nlohmann::ordered_json measure(comm::Device& device, const AttentionCase& one, const AttentionBench& options) {
  std::vector<double> ours, others, ratio;
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first is a warm-up
    const double own = seconds_a_call(device, options.calls, [&] { one.ours(); });
    const double theirs = seconds_a_call(device, options.calls, [&] { one.others(); });
    if (round < 0) continue;
    ours.push_back(own), others.push_back(theirs), ratio.push_back(theirs / own);
  }
  const Tensors first = one.ours(), second = one.ours();
  bool is_same = true;
  for (size_t i = 0; i < first.size(); ++i) is_same = is_same && at::equal(first[i], second[i]);
  return {{"ours_ms", median(ours) * 1e3},
          {"levels_ms", median(others) * 1e3},
          {"tflops", one.operations / median(ours) * 1e-12},
          {"levels_tflops", one.operations / median(others) * 1e-12},
          {"ratio", median(ratio)},
          {"difference", difference_of(first, one.others())},
          {"same_bits", is_same}};
}

std::vector<AttentionCase> cases_of(const Tree& tree, const std::vector<int64_t>& heads, at::Device device,
                                    int64_t sm) {
  using namespace kernels;
  const auto random = [&](int64_t count) {
    return at::randn({tree.rows(), count, heads[2]}, at::TensorOptions(device).dtype(at::kBFloat16));
  };
  const AttentionInputs in{random(heads[0]), random(heads[1]), random(heads[1])};
  const at::Tensor grad = random(heads[0]);
  check<ConfigError>(device.is_cuda(), "attention: our kernels run on a GPU: --device cuda");
  const auto capability = find_operator<int64_t(int64_t)>("fpdist::compute_capability").call(device.index());
  const auto calls =
      std::make_shared<const AttentionCalls>(tree.mask(), device, sm > 0 ? std::min(sm, capability) : capability);
  check<ConfigError>(calls->tiles().has_value(),
                     "attention: our kernels run from compute capability 8.0 on, this GPU has ",
                     static_cast<double>(capability) / 10);
  const AttentionOptions options{.scale = 1 / std::sqrt(static_cast<double>(heads[2])), .rounded = true};
  const AttentionOutput merged = run_levels(in, *calls, options);
  const double area = tree.pairs() * static_cast<double>(heads[0] * heads[2]);
  const auto output = [](const AttentionOutput& x) { return Tensors{x.out, x.lse}; };
  const auto gradients = [](const AttentionGradients& x) { return Tensors{x.q, x.k, x.v}; };
  return {
      {calls->capability(), "forward", 4 * area, [=] { return output(tiled_attention(in, *calls->tiles(), options)); },
       [=] { return output(run_levels(in, *calls, options)); }},
      {calls->capability(), "backward", 10 * area,
       [=] { return gradients(tiled_attention_backward(grad, in, merged, *calls->tiles(), options)); },
       [=] { return gradients(run_levels_backward(grad, in, merged, *calls, options)); }}};
}

void run(comm::World& world, const AttentionBench& options) {
  check<ConfigError>(world.size() == 1, "attention measures one rank: start it without mpirun");
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  const at::NoGradGuard no_grad;
  Table table({{"sm", "sm", 3},
               {"shape", "P,G,R", 14},
               {"heads", "Hq,Hkv,D", 11},
               {"pass", "pass", 9},
               {"ours_ms", "ours ms", 10, 3},
               {"levels_ms", "levels ms", 10, 3},
               {"tflops", "TFLOP/s", 9, 1},
               {"levels_tflops", "levels", 9, 1},
               {"ratio", "levels/ours", 12, 2},
               {"difference", "difference", 12, 6},
               {"same_bits", "same bits", 10}},
              options.json, world.rank() == 0);
  for (const std::string& heads : options.heads)
    for (const std::string& shape : options.shapes)
      for (const AttentionCase& one :
           cases_of(tree_of(shape), numbers_of(heads, "heads", 3), device->where(), options.sm)) {
        nlohmann::ordered_json line = {{"bench", "attention"}, {"device", device->description()},
                                       {"sm", one.sm},         {"shape", shape},
                                       {"heads", heads},       {"pass", one.pass}};
        line.update(measure(*device, one, options));
        table.add(line);
      }
}

}  // namespace

Body prepare_attention(const Arguments& arguments) {
  AttentionBench options;
  po::options_description all("fpdist_bench attention");
  options.device.describe(all);
  all.add_options()("shapes", po::value(&options.shapes)->multitoken(),
                    "P,G,R ...: rows of a prompt, completions, rows of each; P: one sequence");
  all.add_options()("heads", po::value(&options.heads)->multitoken(),
                    "Hq,Hkv,D ...: query heads, key heads, head size");
  const auto add = adder(all);
  add("sm", options.sm,
      "10 * compute capability whose kernels run, up to the device's own, which 0 is: 80 for the portable ones");
  add("rounds", options.rounds, "rounds of both; medians are reported");
  add("calls", options.calls, "calls timed together in a round");
  add("json", options.json, "file that gets one JSON line a result");
  if (!parse(arguments, all)) return {};
  check<ConfigError>(options.rounds > 0 && options.calls > 0, "--rounds and --calls must be 1 or more");
  check<ConfigError>(options.sm == 0 || options.sm >= 80, "--sm must be 80 or more, or 0 for the device's own");
  for (const std::string& heads : options.heads) numbers_of(heads, "heads", 3);
  for (const std::string& shape : options.shapes) tree_of(shape);
  return [options](comm::World& world) { run(world, options); };
}

}  // namespace fpdist::bench
