#include "src/plan/costs/cluster.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/plan/costs/flat_file.hpp"

namespace fpdist::plan {
namespace {

using ClusterField = double Cluster::*;
constexpr std::array<std::pair<std::string_view, ClusterField>, 12> kClusterFields{
    {{"gpus_per_node", &Cluster::gpus_per_node},
     {"peak_flops", &Cluster::peak_flops},
     {"linear_flops", &Cluster::linear_flops},
     {"attention_forward_flops", &Cluster::attention_forward_flops},
     {"attention_backward_flops", &Cluster::attention_backward_flops},
     {"memory_bytes", &Cluster::memory_bytes},
     {"memory_reserve", &Cluster::memory_reserve},
     {"memory_bandwidth", &Cluster::memory_bandwidth},
     {"node_bandwidth", &Cluster::node_bandwidth},
     {"node_latency", &Cluster::node_latency},
     {"network_bandwidth", &Cluster::network_bandwidth},
     {"network_latency", &Cluster::network_latency}}};

void set(Cluster& cluster, std::string_view key, std::string_view value, const std::string& place) {
  std::string known;
  for (const auto& [name, field] : kClusterFields) {
    known += text(known.empty() ? "" : ", ", name);
    if (name != key) continue;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), cluster.*field);
    check<ConfigError>(
        error == std::errc() && end == value.data() + value.size() && cluster.*field > 0 && cluster.*field < 1e30,
        place, key, " is '", value, "': use a number above 0");
    return;
  }
  throw ConfigError(text(place, "unknown key '", key, "': use ", known));
}

}  // namespace

Cluster parse_cluster(const std::string& text_of_file, const std::string& name) {
  Cluster cluster;
  parse_flat(text_of_file, name, [&](std::string_view key, std::string_view value, const std::string& place) {
    set(cluster, key, value, place);
  });
  for (const auto& [key, field] : kClusterFields)
    check<ConfigError>(cluster.*field > 0, name, ": ", key, " is missing: configs/clusters/h100-8.yaml has all keys");
  return cluster;
}

Cluster read_cluster(const std::string& path) {
  return parse_cluster(read_flat(path, "cluster file", "check --cluster"), path);
}

AxisPlace place_of(const Cluster& cluster, int64_t stride, int size) {
  const int64_t room = std::max<int64_t>(1, static_cast<int64_t>(cluster.gpus_per_node) / stride);
  return {size, static_cast<int>(std::min<int64_t>(size, room))};
}

double gather_seconds(const Cluster& cluster, const AxisPlace& place, double bytes) {
  if (place.size <= 1) return 0;
  const auto ring = [](double size, double all, double bandwidth, double latency) {
    return (size - 1) / size * all / bandwidth + (size - 1) * latency;
  };
  if (place.inside == place.size) return ring(place.size, bytes, cluster.node_bandwidth, cluster.node_latency);
  const double flat = ring(place.size, bytes, cluster.network_bandwidth, cluster.network_latency);
  const double nodes = static_cast<double>(place.size) / place.inside;
  const double levels = ring(nodes, bytes / place.inside, cluster.network_bandwidth, cluster.network_latency) +
                        ring(place.inside, bytes, cluster.node_bandwidth, cluster.node_latency);
  return std::min(flat, levels);
}

double message_seconds(const Cluster& cluster, const AxisPlace& place, double bytes) {
  if (place.size <= 1) return 0;
  const bool is_inside = place.inside == place.size;
  return bytes / (is_inside ? cluster.node_bandwidth : cluster.network_bandwidth) +
         (is_inside ? cluster.node_latency : cluster.network_latency);
}

}  // namespace fpdist::plan
