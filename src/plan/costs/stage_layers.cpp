#include "src/plan/costs/stage_layers.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

using Wide = unsigned __int128;  // squares of a step's work

int64_t run_work(const LayerWork& work, const std::vector<int64_t>& layers, size_t run) {
  return layers[run] * work.layer + (run == 0 ? work.embedding : 0) + (run + 1 == layers.size() ? work.head : 0);
}

std::vector<int64_t> stage_loads(const LayerWork& work, const std::vector<int64_t>& layers, size_t stages) {
  std::vector<int64_t> load(stages);
  for (size_t run = 0; run < layers.size(); ++run) load[run % stages] += run_work(work, layers, run);
  return load;
}

/// `last` layers to the last run, the others one at a time to the least loaded stage that has another run.
std::vector<int64_t> deal(const LayerWork& work, size_t stages, size_t runs, int64_t last) {
  std::vector<int64_t> layers(runs, 1);
  layers.back() = last;
  std::vector<int64_t> load = stage_loads(work, layers, stages);
  const size_t dealt_to = std::min(stages, runs - 1);  // the last stage's only run may be the last one
  for (int64_t left = work.layers - last - static_cast<int64_t>(runs - 1); left > 0; --left) {
    const auto end = load.begin() + static_cast<std::ptrdiff_t>(dealt_to);
    const auto stage = index(std::min_element(load.begin(), end) - load.begin());
    size_t smallest = stage;
    for (size_t run = stage; run + 1 < runs; run += stages)
      if (layers[run] < layers[smallest]) smallest = run;
    ++layers[smallest];
    load[stage] += work.layer;
  }
  return layers;
}

std::vector<int64_t> by_cost(const LayerWork& work, size_t stages, size_t runs) {
  if (runs == 1) return {work.layers};
  std::vector<int64_t> best;
  std::tuple<int64_t, Wide> best_score;
  for (int64_t last = 0; last <= work.layers / static_cast<int64_t>(runs); ++last) {
    const std::vector<int64_t> layers = deal(work, stages, runs, last);
    const std::vector<int64_t> load = stage_loads(work, layers, stages);
    Wide squares = 0;
    for (size_t run = 0; run < runs; ++run) {
      const auto one = static_cast<Wide>(run_work(work, layers, run));
      squares += one * one;
    }
    const std::tuple score(*std::max_element(load.begin(), load.end()), squares);
    if (best.empty() || score < best_score) best = layers, best_score = score;
  }
  return best;
}

std::string listed(const std::vector<int64_t>& layers) {
  std::ostringstream all;
  for (size_t run = 0; run < layers.size(); ++run) all << (run ? "," : "") << layers[run];
  return all.str();
}

void check_given(const LayerWork& work, const std::vector<int64_t>& layers, size_t runs) {
  check<ConfigError>(layers.size() == runs, "parallel.layers lists ", layers.size(),
                     " runs of layers, pp * virtual_stages is ", runs, ": give one number a run, in model order");
  for (size_t run = 0; run < runs; ++run) {
    const int64_t least = run + 1 == runs && runs > 1 ? 0 : 1;
    check<ConfigError>(layers[run] >= least, "parallel.layers: run ", run, " has ", layers[run],
                       " layers: every run needs at least one, the last (it holds the head) none");
    check<ConfigError>(layers[run] <= work.layers, "parallel.layers: run ", run, " has ", layers[run],
                       " layers, the model ", work.layers);
  }
  const int64_t sum = std::accumulate(layers.begin(), layers.end(), int64_t{0});
  check<ConfigError>(sum == work.layers, "parallel.layers (", listed(layers), ") adds up to ", sum, ", the model has ",
                     work.layers, " layers: give runs that add up to that, or none to split them by cost");
}

}  // namespace

std::vector<int64_t> stage_layers(const LayerWork& work, const ParallelOptions& options) {
  check<ConfigError>(options.pp >= 1, "parallel.pp is ", options.pp, ": set it to 1 or more");
  check<ConfigError>(options.virtual_stages >= 1, "parallel.virtual_stages is ", options.virtual_stages,
                     ": set it to 1 or more");
  const size_t stages = index(options.pp), runs = stages * index(options.virtual_stages);
  check<ConfigError>(work.layers >= static_cast<int64_t>(runs), "parallel.pp * virtual_stages = ", runs,
                     " runs of layers, the model has ", work.layers, " layers: set parallel.pp to at most ",
                     std::max<int64_t>(1, work.layers / options.virtual_stages));
  if (options.layers.empty()) return by_cost(work, stages, runs);
  check_given(work, options.layers, runs);
  return options.layers;
}

int64_t imbalance_permille(const LayerWork& work, const std::vector<int64_t>& layers, int stages) {
  const std::vector<int64_t> load = stage_loads(work, layers, index(stages));
  const int64_t total = std::accumulate(load.begin(), load.end(), int64_t{0});
  const int64_t mean = std::max<int64_t>(1, total / stages);
  const auto busiest = static_cast<Wide>(*std::max_element(load.begin(), load.end()));
  return static_cast<int64_t>((1000 * busiest + static_cast<Wide>(mean) / 2) / static_cast<Wide>(mean));
}

}  // namespace fpdist::plan
