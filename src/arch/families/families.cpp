#include <algorithm>
#include <array>

#include "src/arch/families/family.hpp"

namespace fpdist::arch {

extern const Family kLlama, kQwen2, kQwen3;  // each in its own file

std::span<const Family* const> families() {
  static constexpr std::array kAll{&kLlama, &kQwen2, &kQwen3};
  return kAll;
}

const Family& family_of(const Model& model) {
  const auto all = families();
  return **std::find_if(all.begin(), all.end(), [&](const Family* one) { return one->model_type == model.family; });
}

}  // namespace fpdist::arch
