#include "src/main/plan/world_search.hpp"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <tuple>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/plan/costs/stage_layers.hpp"

namespace fpdist::main_program {
namespace {

/// What is searched for, and what all meshes ask of it.
struct Search {
  const PlanRequest& request;
  const plan::ModelBytes& bytes;
  const plan::Cluster& cluster;
  plan::Amount all;  ///< request.tree.unique()
  bool is_large = false;
};

struct MeshChoice {
  plan::ClusterJob job;
  plan::Schedule schedule;
  int64_t max_tokens = 0;  ///< of a pack
  double least = 0;        ///< seconds
};

constexpr size_t kManySamples = 20000;
constexpr size_t kMostMeshes = 12;

plan::PlannerOptions options_of(const PlanRequest& request, const MeshChoice& choice) {
  plan::PlannerOptions options = request.options;
  options.replicas = choice.job.mesh.dp;
  options.parallel.pp = choice.job.mesh.pp;
  options.parallel.schedule = choice.schedule;
  options.parallel.virtual_stages = choice.schedule == plan::Schedule::kInterleaved ? 2 : 1;
  options.parallel.layers.clear();
  options.max_tokens = choice.max_tokens;
  options.thrift = 8;  // many are compared, and each is worth as much search as the next
  return options;
}

/// Layers of the stages by cost, before any plan.
std::vector<int64_t> first_layers(const Search& search, const MeshChoice& choice) {
  const plan::StageCosts costs = plan::cluster_costs(choice.job, search.all, search.request.costs.overhead_rows);
  return plan::stage_layers(plan::layer_work(costs, search.all), options_of(search.request, choice).parallel);
}

std::vector<MeshChoice> meshes_of(const Search& search, int64_t ranks) {
  std::vector<MeshChoice> all;
  const auto& [request, bytes, cluster, work, is_large] = search;
  const arch::ModelShape& shape = bytes.shape;
  for (const int tp : {1, 2, 4, 8})
    for (const int cp : {1, 2, 4, 8, 16, 32, 64})
      for (const int pp : {1, 2, 4, 8, 16}) {
        const int64_t inner = int64_t{tp} * cp * pp;
        if (tp > cluster.gpus_per_node || shape.heads % tp != 0 || shape.kv_heads % tp != 0) continue;
        if (ranks % inner != 0 || ranks / inner > static_cast<int64_t>(request.tree.sample.size())) continue;
        const MeshShape mesh{static_cast<int>(ranks / inner), pp, cp, tp};
        for (const plan::Schedule schedule :
             {plan::Schedule::k1F1B, plan::Schedule::kInterleaved, plan::Schedule::kZeroBubble}) {
          const int runs = schedule == plan::Schedule::kInterleaved ? 2 : 1;
          if ((pp == 1 && schedule != plan::Schedule::k1F1B) || pp * runs > shape.layers) continue;
          for (const bool recompute : {false, true}) {
            MeshChoice choice{{cluster, bytes, mesh}, schedule};
            choice.job.model.recompute = recompute;
            for (const int64_t parts : {1, 2, 4}) {
              choice.max_tokens = request.options.max_tokens / parts;
              choice.job.pack_rows = std::min(choice.max_tokens, work.rows);
              choice.least = plan::least_seconds(choice.job, work, request.costs.overhead_rows);
              if (parts == 1 || (!is_large && choice.max_tokens > 0)) all.push_back(choice);
            }
          }
        }
      }
  std::ranges::stable_sort(all, {}, &MeshChoice::least);
  return all;
}

/// The step on this mesh; `seconds` is 0 where it does not fit or nothing can be planned.
WorldPoint try_mesh(const Search& search, const MeshChoice& choice) {
  const PlanRequest& request = search.request;
  WorldPoint point;
  point.mesh = choice.job.mesh, point.schedule = choice.schedule;
  point.recompute = choice.job.model.recompute, point.max_tokens = choice.max_tokens;
  point.ulysses = plan::head_exchange(choice.job, search.all);
  PlanRequest other = request;
  other.costs = plan::cluster_costs(choice.job, search.all, request.costs.overhead_rows);
  other.options = options_of(request, choice);
  try {
    const PricedStep step = plan_step(other);
    point.memory = plan::cluster_memory(choice.job, step.plan, step.figures);
    if (point.memory > choice.job.cluster.memory_bytes) return point;
    point.sharing_kept = step.figures.sharing_kept;
    point.seconds =
        plan::cluster_seconds(choice.job, search.all, request.costs.overhead_rows, other.options, step.plan);
  } catch (const ConfigError& error) {  // rows that do not fit, too few units for the schedule
    point.refusal = error.what();
  }
  return point;
}

WorldPoint best_mesh(const Search& search, int64_t ranks) {
  const bool complete = search.request.complete;
  const plan::Cluster& cluster = search.cluster;
  WorldPoint best;
  double least_memory = 0;
  std::string refusal;
  int64_t planned = 0, too_large = 0;
  std::vector<PlannedMesh> fitted;
  const std::vector<MeshChoice> all = meshes_of(search, ranks);
  for (const MeshChoice& choice : all) {
    if (!complete && best.seconds.all() > 0 && choice.least >= best.seconds.all()) break;
    if (!complete && search.is_large && fitted.size() >= kMostMeshes) break;
    double needed = plan::least_memory(choice.job, first_layers(search, choice));
    if (needed <= cluster.memory_bytes) {
      WorldPoint point = try_mesh(search, choice);
      ++planned;
      if (!point.refusal.empty()) refusal = point.refusal;
      const double seconds = point.seconds.all();
      if (seconds > 0) fitted.push_back(point);
      if (seconds > 0 && (best.seconds.all() == 0 || seconds < best.seconds.all())) best = std::move(point);
      if (seconds > 0) continue;
      needed = point.memory;
    }
    if (needed <= 0) continue;
    ++too_large;
    if (least_memory == 0 || needed < least_memory) least_memory = needed;
  }
  best.ranks = ranks, best.meshes = static_cast<int64_t>(all.size());
  best.planned = planned, best.too_large = too_large;
  best.fitted = std::move(fitted);
  if (best.seconds.all() > 0) return best;
  best.refusal = least_memory > 0
                     ? text("no mesh fits: the smallest needs ", bytes_text(static_cast<int64_t>(least_memory)),
                            " of a GPU's ", bytes_text(static_cast<int64_t>(cluster.memory_bytes)),
                            "; give more GPUs or a smaller --pack.max_tokens")
                 : refusal.empty() ? "no mesh of so many ranks: give a multiple of a power of two"
                                   : refusal;
  return best;
}

}  // namespace

plan::ModelBytes llama3_8b() {
  return {.shape = {.layers = 32,
                    .hidden = 4096,
                    .intermediate = 14336,
                    .heads = 32,
                    .kv_heads = 8,
                    .head_dim = 128,
                    .vocab = 128256},
          .value = 2,
          .sum = 4};
}

std::vector<WorldPoint> search_worlds(const PlanRequest& request, const plan::ModelBytes& bytes,
                                      const plan::Cluster& cluster, std::span<const int64_t> world_sizes) {
  const Search search{request, bytes, cluster, request.tree.unique(), request.tree.sample.size() > kManySamples};
  std::vector<WorldPoint> all;
  double first = 0;  // tokens a second and GPU
  for (const int64_t ranks : world_sizes) {
    check<ConfigError>(ranks >= 1, "--world-sizes ", ranks, " is no number of GPUs");
    WorldPoint point = best_mesh(search, ranks);
    if (point.refusal.empty()) {
      const auto tokens = static_cast<double>(request.tree.tokens_logical());
      point.tokens_per_second = tokens / point.seconds.all();
      point.mfu = plan::model_flops(bytes, search.all) /
                  (static_cast<double>(ranks) * cluster.peak_flops * point.seconds.all());
      const double each = point.tokens_per_second / static_cast<double>(ranks);
      if (first == 0) first = each;
      point.efficiency = each / first;
    }
    all.push_back(std::move(point));
  }
  return all;
}

}  // namespace fpdist::main_program
