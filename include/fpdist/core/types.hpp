#pragma once
// core: small value types that every room shares.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace fpdist {

struct Key;  ///< of a configuration: a field of a room's options, see the room's options.cpp

/// What the trainer optimises; the spelling in a config is sft | dpo | reward | grpo.
enum class Method { kSft, kDpo, kReward, kGrpo };
inline constexpr std::array<std::pair<Method, std::string_view>, 4> kMethods{
    {{Method::kSft, "sft"}, {Method::kDpo, "dpo"}, {Method::kReward, "reward"}, {Method::kGrpo, "grpo"}}};
std::string_view name_of(Method method);
Method method_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

/// What a model ends in: log-probs of tokens over the vocabulary, or one score a sample (reward models).
enum class Head { kLanguageModel, kScore };

/// Dtype of weights and activations. Masters, main grads and loss are float32, or float64 when this is float64.
enum class DType { kFloat32, kBFloat16, kFloat64 };
inline constexpr std::array<std::pair<DType, std::string_view>, 3> kDTypes{
    {{DType::kFloat32, "float32"}, {DType::kBFloat16, "bfloat16"}, {DType::kFloat64, "float64"}}};
std::string_view name_of(DType dtype);
DType dtype_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

/// Degrees of the mesh axes, outermost first. Rank = ((dp_index * pp + pp_index) * cp + cp_index) * tp + tp_index.
struct MeshShape {
  int dp = -1, pp = 1, cp = 1, tp = 1;  ///< dp -1: the rest of the ranks
  int size() const { return dp * pp * cp * tp; }
  bool operator==(const MeshShape&) const = default;
};
/// Replaces a single -1 and checks the product against the world; throws ConfigError naming the axes and the cure.
MeshShape resolve_mesh(MeshShape wanted, int world_size);
std::string to_string(const MeshShape& mesh);

/// Where a rank stands on each axis.
struct Coordinates {
  int dp = 0, pp = 0, cp = 0, tp = 0;
  bool operator==(const Coordinates&) const = default;
};
Coordinates coordinates_of(int rank, const MeshShape& mesh);
int rank_of(const Coordinates& at, const MeshShape& mesh);

}  // namespace fpdist
