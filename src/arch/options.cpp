#include "fpdist/arch/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::arch {

std::span<const Key> AdapterOptions::keys() {
  using Options = AdapterOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(type, "none: all weights are trained; lora: low-rank products beside frozen linears",
                 Valid{.values = "none | lora", .check = check_one_of}),
      FPDIST_KEY(path, "directory of an adapter to go on from, which says what the other keys do"),
      FPDIST_KEY(r, "rank of the products", kFromOne),
      FPDIST_KEY(lora_alpha, "the products are scaled by lora_alpha / r", kAboveZero),
      FPDIST_KEY(use_rslora, "the products are scaled by lora_alpha / sqrt(r)"),
      FPDIST_KEY(use_dora, "DoRA: the lengths of the weights' rows are trained by a vector of their own"),
      FPDIST_KEY(target_modules, "linears that have one: names, one pattern or all-linear; empty: q_proj and v_proj"),
      FPDIST_KEY(exclude_modules, "linears that have none although target_modules names them"),
      FPDIST_KEY(layers_to_transform, "numbers of the layers that target_modules means; empty: all"),
      FPDIST_KEY(rank_pattern, "linears with an r of their own: {down_proj: 16}"),
      FPDIST_KEY(alpha_pattern, "linears with a lora_alpha of their own"),
      FPDIST_KEY(init_lora_weights, "how they begin: true and gaussian as the model is, false away from it",
                 Valid{.values = "true | gaussian | false", .check = check_one_of})};
  return kKeys;
}

}  // namespace fpdist::arch
