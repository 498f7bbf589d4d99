#pragma once
// core: dtypes of models.

#include <array>
#include <string_view>
#include <utility>

namespace fpdist {

/// Dtype of weights and activations. Masters, main grads and loss are float32, or float64 when this is float64.
enum class DType { kFloat32, kBFloat16, kFloat64 };
inline constexpr std::array<std::pair<DType, std::string_view>, 3> kDTypes{
    {{DType::kFloat32, "float32"}, {DType::kBFloat16, "bfloat16"}, {DType::kFloat64, "float64"}}};
std::string_view name_of(DType dtype);
DType dtype_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

}  // namespace fpdist
