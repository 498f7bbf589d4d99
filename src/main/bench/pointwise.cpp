// fpdist_bench pointwise: the kernels between the GEMMs, ours against the same out of ATen's operations, in turn in
// every round, so that a slow moment hits both. They are bound by memory: GB/s counts the bytes that have to move, each
// tensor once, and the first lines are plain copies, which show what the device can do. `difference` is how far ours is
// from ATen's: the largest difference over the largest element.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"
#include "kernels/selected_logprob/logit_rows.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"
#include "src/main/bench/bench.hpp"
#include "src/main/bench/model_shape.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;
using Tensors = std::vector<at::Tensor>;

struct Options {
  DeviceOption device;
  DTypeChoice dtype;
  std::string model = "qwen2.5-7b", json;
  int64_t rows = 8192, rounds = 7, calls = 5;
};

struct Case {
  std::string name;
  Tensors read;  ///< the bytes to move are theirs and the results'
  std::function<Tensors()> ours, aten;
  std::function<void()> restore = [] {};  ///< what they read and use up; timed calls go on with what is left
};

Tensors both(const std::tuple<at::Tensor, at::Tensor>& pair) { return {std::get<0>(pair), std::get<1>(pair)}; }

void add_copy(std::vector<Case>& cases, const char* name, const at::Tensor& x) {
  cases.push_back({name, {x}, [=] { return Tensors{x.clone()}; }, [=] { return Tensors{at::empty_like(x).copy_(x)}; }});
}

void add_swiglu(std::vector<Case>& cases, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& dy) {
  using namespace kernels;
  cases.push_back({"swiglu",
                   {gate, up},
                   [=] { return Tensors{swiglu(gate, up)}; },
                   [=] { return Tensors{composed_swiglu(gate, up)}; }});
  cases.push_back({"swiglu_back",
                   {dy, gate, up},
                   [=] { return both(swiglu_backward(dy, gate, up)); },
                   [=] { return both(composed_swiglu_backward(dy, gate, up)); }});
}

void add_rms_norm(std::vector<Case>& cases, const std::string& name, const at::Tensor& x, const at::Tensor& dy) {
  using namespace kernels;
  constexpr double kEps = 1e-6;
  const at::Tensor weight = at::rand({x.size(1)}, x.options()) + 0.5;
  cases.push_back({name,
                   {x, weight},
                   [=] { return Tensors{rms_norm(x, weight, kEps, {})}; },
                   [=] { return Tensors{composed_rms_norm(x, weight, kEps)}; }});
  cases.push_back({name + "_back",
                   {dy, x, weight},
                   [=] { return both(rms_norm_backward(dy, x, weight, kEps)); },
                   [=] { return both(composed_rms_norm_backward(dy, x, weight, kEps)); }});
}

void add_rotary(std::vector<Case>& cases, const std::string& name, const at::Tensor& x) {
  using namespace kernels;
  const at::Tensor angle = at::rand({x.size(0), x.size(2) / 2}, x.options().dtype(at::kFloat)) * 1000;
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  for (const bool is_inverse : {false, true})
    cases.push_back({name + (is_inverse ? "_back" : ""),
                     {x, cos, sin},
                     [=] { return Tensors{rotary(x, cos, sin, is_inverse)}; },
                     [=] { return Tensors{composed_rotary(x, cos, sin, is_inverse)}; }});
}

/// The head's, on logits in one place of memory: a score a row, as most rows have.
void add_logprob(std::vector<Case>& cases, int64_t rows, int64_t vocabulary, at::ScalarType dtype, at::Device device) {
  using namespace kernels;
  const at::TensorOptions wide = at::TensorOptions(device).dtype(at::kFloat);
  const at::Tensor drawn = at::randn({rows, (vocabulary + 7) / 8 * 8}, wide).mul_(3), memory = drawn.clone();
  const auto restore = [=] { memory.copy_(drawn); };
  const at::Tensor logits = memory.narrow(1, 0, vocabulary), id = at::arange(rows, wide.dtype(at::kLong));
  const LogitScores scores{.row = id, .target = id.remainder(vocabulary)};
  const auto run = [=](LogitStatistics statistics) {
    LogitResults results{.logit = at::empty({rows}, wide),
                         .lse = at::empty({rows}, wide),
                         .entropy = at::empty({rows}, wide),
                         .best = at::empty({rows}, wide),
                         .argmax = at::empty({rows}, id.options())};
    at::Tensor used = logits;
    statistics(used, scores, results);
    return Tensors{results.logit, results.lse, results.entropy, results.best, results.argmax};
  };
  cases.push_back({"logprob",
                   {logits, id, id},
                   [=] { return run(logit_statistics); },
                   [=] { return run(composed_logit_statistics); },
                   restore});
  const Tensors forward = run(composed_logit_statistics);
  const LogitGradients of{.logp = at::randn({rows}, wide), .entropy = {}, .lse = forward[1], .row_entropy = forward[2]};
  const auto run_back = [=](LogitGradient gradient) {
    at::Tensor used = logits;
    return Tensors{gradient(used, scores, of, dtype)};
  };
  cases.push_back({"logprob_back",
                   {logits, id, id, *of.logp, of.lse, of.row_entropy},
                   [=] { return run_back(logit_gradient); },
                   [=] { return run_back(composed_logit_gradient); },
                   restore});
}

/// Everything pointwise of a layer of the model, `rows` rows, and of the head on a GPU, a quarter as many.
std::vector<Case> cases_of(const arch::Model& model, int64_t rows, const at::TensorOptions& on) {
  const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, on); };
  const arch::ModelShape of = model.shape();
  std::vector<Case> cases;
  const at::Tensor gate = random({rows, of.intermediate}), up = random({rows, of.intermediate});
  add_copy(cases, "copy_mlp", gate);
  add_swiglu(cases, gate, up, random({rows, of.intermediate}));
  const at::Tensor x = random({rows, of.hidden}), dy = random({rows, of.hidden});
  add_copy(cases, "copy_hidden", x);
  add_rms_norm(cases, "rms_norm", x, dy);
  const at::Tensor q = random({rows, of.heads, of.head_dim});
  add_rotary(cases, "rotary_q", q);
  add_rotary(cases, "rotary_k", random({rows, of.kv_heads, of.head_dim}));
  // Families that normalise each head.
  add_rms_norm(cases, "head_norm", q.view({-1, of.head_dim}), at::randn_like(q).view({-1, of.head_dim}));
  if (on.device().is_cuda())  // its CPU twin is no operator of its own
    add_logprob(cases, std::max<int64_t>(1, rows / 4), of.vocab, c10::typeMetaToScalarType(on.dtype()), on.device());
  return cases;
}

double bytes_of(const Tensors& tensors) {
  double bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<double>(tensor.nbytes());
  return bytes;
}

double difference_of(const Tensors& ours, const Tensors& aten) {
  double worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const at::Tensor a = ours[i].to(at::kFloat), b = aten[i].to(at::kFloat);
    const double largest = b.abs().max().item<double>(), apart = (a - b).abs().max().item<double>();
    // A NaN of either side stays one.
    worst = std::isnan(apart) ? apart : std::max(worst, apart / std::max(largest, 1e-30));
  }
  return worst;
}

nlohmann::ordered_json measure(comm::Device& device, const Case& one, const Options& options) {
  std::vector<double> ours, aten, ratio;
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first is a warm-up
    const double own = seconds_a_call(device, options.calls, [&] { one.ours(); });
    const double theirs = seconds_a_call(device, options.calls, [&] { one.aten(); });
    if (round < 0) continue;
    ours.push_back(own), aten.push_back(theirs), ratio.push_back(theirs / own);
  }
  one.restore();
  Tensors results;  // copies: what they lie in may be restored
  for (const at::Tensor& result : one.ours()) results.push_back(result.clone());
  one.restore();
  const double bytes = bytes_of(one.read) + bytes_of(results);
  return {{"ours_ms", median(ours) * 1e3},
          {"aten_ms", median(aten) * 1e3},
          {"megabytes", bytes * 1e-6},
          {"gb_per_second", bytes / median(ours) * 1e-9},
          {"aten_gb_per_second", bytes / median(aten) * 1e-9},
          {"ratio", median(ratio)},
          {"difference", difference_of(results, one.aten())}};
}

void run(comm::World& world, const Options& options, const arch::Model& model) {
  check<ConfigError>(world.size() == 1, "pointwise measures one rank: start it without mpirun");
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  const at::ScalarType dtype = options.dtype.on(*device);
  const at::NoGradGuard no_grad;
  Table table({{"kernel", "kernel", 15},
               {"megabytes", "MB", 10, 1},
               {"ours_ms", "ours ms", 10, 4},
               {"aten_ms", "ATen ms", 10, 4},
               {"gb_per_second", "GB/s", 10, 1},
               {"aten_gb_per_second", "ATen GB/s", 11, 1},
               {"ratio", "ATen/ours", 11, 2},
               {"difference", "difference", 12, 6}},
              options.json, world.rank() == 0);
  for (const Case& one : cases_of(model, options.rows, at::TensorOptions(device->where()).dtype(dtype))) {
    nlohmann::ordered_json line = {{"bench", "pointwise"},
                                   {"device", device->description()},
                                   {"dtype", name_of(dtype)},
                                   {"kernel", one.name},
                                   {"rows", one.read[0].size(0)}};
    line.update(measure(*device, one, options));
    table.add(line);
  }
}

}  // namespace

Body prepare_pointwise(const Arguments& arguments) {
  Options options;
  po::options_description all("fpdist_bench pointwise");
  options.device.describe(all);
  const auto add = adder(all);
  add("model", options.model, "whose layers: qwen2.5-7b, qwen2.5-0.5b, llama-3-8b, small or a config.json");
  add("rows", options.rows, "rows of a pack");
  options.dtype.describe(all);
  add("rounds", options.rounds, "rounds of both; medians are reported");
  add("calls", options.calls, "calls timed together in a round");
  add("json", options.json, "file that gets one JSON line a result");
  if (!parse(arguments, all)) return {};
  check_spared(options.model, options.json);
  check<ConfigError>(options.rows > 0 && options.rounds > 0 && options.calls > 0,
                     "--rows, --rounds and --calls must be 1 or more");
  options.dtype.check();
  const arch::Model model = model_shape(options.model, 0);
  return [options, model](comm::World& world) { run(world, options, model); };
}

}  // namespace fpdist::bench
