#pragma once
// arch: NTK-Attention, an infinite prefix as two weights of each layer: what attention sums over gains phi(q) Z and its
// denominator phi(q) |k|, phi(x) = elu(x / d^(1/4)) + 1 of the turned query. Source: Liang et al., "Towards
// infinite-long prefix in transformer" (2024).

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fpdist::arch {

struct Model;

/// Names of Z [heads * head_dim, head_dim] and k [heads, head_dim], behind that of the layer.
inline constexpr const char *kNtkValues = ".self_attn.phi_kv", *kNtkKeys = ".self_attn.phi_k";
/// Both begin normal with this deviation: |k| has no slope at zero, so that a k that begins there stays.
inline constexpr double kNtkDeviation = 1e-4;

bool is_of_ntk(std::string_view parameter);

std::vector<std::pair<std::string, std::vector<int64_t>>> ntk_parameters(const Model& model);

}  // namespace fpdist::arch
