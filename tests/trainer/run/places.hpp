#pragma once
// Tests: meshes and schedules that the same run may be on.

#include <ostream>
#include <string>

#include "fpdist/config/config.hpp"

namespace fpdist::test {

struct Place {
  const char* name;
  MeshShape mesh;
  plan::Schedule schedule = plan::Schedule::k1F1B;
  int virtual_stages = 1;

  config::Config of(config::Config config) const {
    static_cast<MeshShape&>(config.parallel) = mesh;
    config.parallel.schedule = schedule, config.parallel.virtual_stages = virtual_stages;
    config.parallel.cp_chunk = 4;
    return config;
  }
};

inline void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

/// Of models with four layers and four heads.
inline const Place kTp2Cp2Pp2{"tp2cp2pp2", {.dp = 1, .pp = 2, .cp = 2, .tp = 2}}, kDp2Pp4{"dp2pp4", {.dp = 2, .pp = 4}},
    kInterleaved{"pp2_interleaved", {.dp = 1, .pp = 2}, plan::Schedule::kInterleaved, 2},
    kOneRank{"one_rank", {.dp = 1}};

}  // namespace fpdist::test
