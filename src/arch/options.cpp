#include "fpdist/arch/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::arch {

std::span<const Key> AdapterOptions::keys() {
  using Options = AdapterOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(
          type,
          "none: all weights are trained; lora: low-rank products beside frozen linears; prefix_tuning: keys "
          "and values of virtual tokens ahead of every sample; cartridge: the same, begun as a text; "
          "prompt_tuning: their embeddings",
          Valid{.values = "none | lora | prefix_tuning | cartridge | prompt_tuning | ntk", .check = check_one_of}),
      FPDIST_KEY(path, "directory of an adapter to go on from, which says what the other keys do"),
      FPDIST_KEY(r, "rank of the products", kFromOne),
      FPDIST_KEY(lora_alpha, "the products are scaled by lora_alpha / r", kAboveZero),
      FPDIST_KEY(use_rslora, "the products are scaled by lora_alpha / sqrt(r)"),
      FPDIST_KEY(lora_dropout, "part of their input that the products miss in training",
                 Valid{.values = "0 <= p < 1",
                       .must = "0 or more and less than 1",
                       .accepts = [](double x) { return x >= 0 && x < 1; }}),
      FPDIST_KEY(use_dora, "DoRA: the lengths of the weights' rows are trained by a vector of their own"),
      FPDIST_KEY(lora_dtype, "what the products are computed in; float32 is PEFT's way beside bfloat16",
                 Valid{.values = "model | float32", .check = check_one_of}),
      FPDIST_KEY(target_modules, "linears that have one: names, one pattern or all-linear; empty: q_proj and v_proj"),
      FPDIST_KEY(exclude_modules, "linears that have none although target_modules names them"),
      FPDIST_KEY(layers_to_transform, "numbers of the layers that target_modules means; empty: all"),
      FPDIST_KEY(rank_pattern, "linears with an r of their own: {down_proj: 16}"),
      FPDIST_KEY(alpha_pattern, "linears with a lora_alpha of their own"),
      FPDIST_KEY(init_lora_weights, "how they begin: true and gaussian as the model is, false away from it",
                 Valid{.values = "true | gaussian | false", .check = check_one_of}),
      FPDIST_KEY(num_virtual_tokens, "virtual tokens: 20 is usual", kFromZero),
      FPDIST_KEY(init_weights, "how a prefix begins: normal with deviation 1, or zero",
                 Valid{.values = "normal | zero", .check = check_one_of}),
      FPDIST_KEY(init_text, "text whose first num_virtual_tokens tokens a prefix begins as"),
      FPDIST_KEY(num_frozen_tokens, "tokens at a cartridge's front that stay as they began", kFromZero),
      FPDIST_KEY(prefix_by,
                 "none: one prefix for all rows; source: one for each of prefix_values, by the column source; context: "
                 "one made of each row's column context, by an MLP",
                 Valid{.values = "none | source | context", .check = check_one_of}),
      FPDIST_KEY(prefix_values, "values of the column source that have a prefix each"),
      FPDIST_KEY(prefix_default, "the one of them for rows that name another, or none; empty: such rows are errors"),
      FPDIST_KEY(
          prefix_drop, "part of the groups that stand behind no prefix in a step",
          Valid{.values = "0 <= p <= 1", .must = "0 to 1", .accepts = [](double x) { return x >= 0 && x <= 1; }}),
      FPDIST_KEY(context_dim, "numbers in the column context", kFromZero),
      FPDIST_KEY(prefix_projection, "a prefix is made of embeddings by an MLP, which is trained in its place"),
      FPDIST_KEY(encoder_hidden_size,
                 "hidden units of that MLP; 0: as wide as a layer's keys, of contexts' half as wide as all virtual "
                 "tokens' embeddings",
                 kFromZero),
      FPDIST_KEY(prompt_tuning_init, "how embeddings of virtual tokens begin",
                 Valid{.values = "RANDOM | SAMPLE_VOCAB | TEXT", .check = check_one_of}),
      FPDIST_KEY(prompt_tuning_init_text, "text that they begin as, cut or repeated to num_virtual_tokens")};
  return kKeys;
}

}  // namespace fpdist::arch
