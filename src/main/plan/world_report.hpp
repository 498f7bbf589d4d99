#pragma once
// main: what a step would take on a cluster of several sizes, as text, JSON and a part of the page.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/mesh_shape.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/plan/figures/cluster_step.hpp"

namespace fpdist::main_program {

/// A mesh that was planned and fits, with its schedule and packs.
struct PlannedMesh {
  MeshShape mesh;
  plan::Schedule schedule = plan::Schedule::k1F1B;
  bool recompute = false;
  int64_t max_tokens = 0;  ///< of a pack
  int ulysses = 1;         ///< ranks of cp that exchange heads
  plan::ClusterSeconds seconds;
  double memory = 0;  ///< bytes of the rank that holds most
};

/// A step on `ranks` GPUs, on the best mesh of those that fit.
struct WorldPoint : PlannedMesh {
  int64_t ranks = 0;
  std::string refusal;  ///< why there is none; what else there is is then not filled
  double tokens_per_second = 0, mfu = 0;
  double efficiency = 0;                           ///< tokens a second and GPU over those of the first size
  double sharing_kept = 0;                         ///< tokens of all samples for a computed one
  int64_t meshes = 0, planned = 0, too_large = 0;  ///< with schedules: there were, were tried, do not fit
  std::vector<PlannedMesh> fitted;                 ///< of those that were tried
};

/// All about one cluster.
struct ClusterReport {
  std::string source;  ///< its file
  double sharing_bound = 0;
  std::vector<WorldPoint> worlds;
};
std::string to_text(const ClusterReport& report);
nlohmann::json to_json(const ClusterReport& report);
/// A table and, with more than one size, a chart: tokens a second by GPUs, and where the seconds go.
std::string to_html(const ClusterReport& report);

}  // namespace fpdist::main_program
