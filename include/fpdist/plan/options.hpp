#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/mesh_shape.hpp"

namespace fpdist {
struct Key;
}
namespace fpdist::plan {

/// Order of a pipeline's forwards and backwards; the spelling in a config is 1f1b | interleaved | zb-h1.
enum class Schedule { k1F1B, kInterleaved, kZeroBubble };
std::string_view name_of(Schedule schedule);
Schedule schedule_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

/// How keys reach the queries of other context-parallel ranks; auto | ring | groupcast | ulysses.
enum class CpMethod { kAuto, kRing, kGroupCast, kUlysses };
std::string_view name_of(CpMethod method);
CpMethod cp_method_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

/// What may not be torn over packs: single samples only, groups of exactly two samples, or every group. A loss that is
/// not linear across the samples of a group needs the group whole.
enum class Atomic { kSamples, kPairs, kLines };

/// The mesh, and what runs on its axes.
struct ParallelOptions : MeshShape {
  Schedule schedule = Schedule::k1F1B;
  /// Runs of layers that each pipeline rank holds (v); more than 1 only with the interleaved schedule.
  int virtual_stages = 1;
  /// Layers of each stage (of each of the pp * virtual_stages runs, in model order); empty: by cost.
  std::vector<int64_t> layers;
  CpMethod cp_method = CpMethod::kAuto;
  /// Ranks of the cp axis that exchange heads instead of keys; must divide cp and the KV heads of a tp rank.
  /// 0: the planner chooses for every pack; 1: none.
  int ulysses = 0;
  /// Most rows in a context-parallel chunk.
  int64_t cp_chunk = 512;

  static std::span<const Key> keys();
};

struct PackOptions {
  /// Most rows in one pack (one micro-batch).
  int64_t max_tokens = 8192;
  /// false lays every sample out alone: the same code on chains.
  bool share_prefix = true;
  /// Slices in which a pack goes through the pipeline, its earlier ones' keys resident on each stage: 0: the planner
  /// chooses for every pack; 1: packs stay whole; n: every pack is cut in n.
  int slices = 0;
  /// Run the first n steps both ways, shared and each sample alone, and stop if loss or gradients disagree.
  int64_t verify_steps = 0;
  /// Most rows in flight on a pipeline stage, forward done and weight gradient not; 0: what whole packs need.
  int64_t max_in_flight = 0;

  static std::span<const Key> keys();
};

/// What plans are made with. By default FLOP counts of the model: the same run twice makes the same plans. Measured
/// costs follow a clock; a run with calibrate_steps repeats only as one whose `costs` is the file that it wrote.
struct PlanOptions {
  /// A cost file (plan::read_costs) of this model; empty: by FLOPs.
  std::string costs;
  /// Time the operations of the first n steps (the very first left out, every other one in slices), fit costs to them,
  /// write these to output_dir/costs.yaml and plan with them from then on, and again when times drift away from the
  /// plans; 0: never. A good number is 5.
  int64_t calibrate_steps = 0;

  static std::span<const Key> keys();
};

}  // namespace fpdist::plan
