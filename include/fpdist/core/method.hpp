#pragma once
// core: what the trainer optimises.

#include <array>
#include <string_view>
#include <utility>

namespace fpdist {

/// What the trainer optimises; the spelling in a config is sft | dpo | reward | grpo | kto | cpo | orpo | prm.
enum class Method { kSft, kDpo, kReward, kGrpo, kKto, kCpo, kOrpo, kPrm };
inline constexpr std::array<std::pair<Method, std::string_view>, 8> kMethods{{{Method::kSft, "sft"},
                                                                              {Method::kDpo, "dpo"},
                                                                              {Method::kReward, "reward"},
                                                                              {Method::kGrpo, "grpo"},
                                                                              {Method::kKto, "kto"},
                                                                              {Method::kCpo, "cpo"},
                                                                              {Method::kOrpo, "orpo"},
                                                                              {Method::kPrm, "prm"}}};
std::string_view name_of(Method method);
Method method_from_name(std::string_view name);  ///< throws ConfigError listing the valid names

}  // namespace fpdist
