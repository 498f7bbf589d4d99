#pragma once
// plan: what the machines of a cluster do, a GPU each: rates to predict steps by where nothing can be measured.

#include <cstdint>
#include <string>

namespace fpdist::plan {

/// SI units: operations, bytes and seconds; bandwidths one way.
struct Cluster {
  double gpus_per_node = 0;
  double peak_flops = 0;    ///< what MFU is counted against
  double linear_flops = 0;  ///< attained by layers' products
  double attention_forward_flops = 0, attention_backward_flops = 0;
  double memory_bytes = 0, memory_reserve = 0;  ///< of a GPU; not for the model
  double memory_bandwidth = 0;
  double node_bandwidth = 0, node_latency = 0;        ///< between GPUs of a node
  double network_bandwidth = 0, network_latency = 0;  ///< between nodes, a GPU
};

/// From a flat YAML mapping as configs/clusters has them: the fields, all of them, each once. Throws ConfigError with
/// file:line for an unknown or repeated key or a value that is no positive number, and with what is missing.
Cluster read_cluster(const std::string& path);
Cluster parse_cluster(const std::string& text, const std::string& name);

/// Where the ranks of an axis (or of several together) are: `size` of them, `inside` of each node.
struct AxisPlace {
  int size = 1, inside = 1;
};

/// Where `size` ranks are, each `stride` ranks from the next.
AxisPlace place_of(const Cluster& cluster, int64_t stride, int size);

/// Seconds of an all-gather of `bytes`, each rank's part of them its own, or of the reduce-scatter that is its mirror:
/// in one ring, whose slowest link counts, or inside nodes and then between them, every GPU over its own adapter,
/// whichever is faster.
double gather_seconds(const Cluster& cluster, const AxisPlace& place, double bytes);

/// Seconds of one message of `bytes` to the next rank of an axis whose worst neighbours are in one node or not.
double message_seconds(const Cluster& cluster, const AxisPlace& place, double bytes);

}  // namespace fpdist::plan
