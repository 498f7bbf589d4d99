#include "fpdist/model/options.hpp"

#include "src/core/key.hpp"

namespace fpdist::model {

std::span<const Key> ModelOptions::keys() {
  using Options = ModelOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(path, "Hugging Face directory; give this or model.preset"),
      FPDIST_KEY(preset, "built-in shape with seeded random weights", Valid{.values = "tiny"}),
      FPDIST_KEY(ref_path, "Hugging Face directory of the frozen reference; empty: the model before the first step"),
      FPDIST_KEY(seed, "seed of a preset's weights and of a new score head"),
      FPDIST_NAMED_KEY(dtype, "weights and activations", kDTypes),
      FPDIST_KEY(load_in_4bit, "quantize the layers' linears when they are read, for adapters beside them (QLoRA)"),
      FPDIST_KEY(bnb_4bit_quant_type, "of load_in_4bit", Valid{.values = "nf4", .check = check_one_of}),
      FPDIST_KEY(bnb_4bit_use_double_quant, "load_in_4bit stores its scales in 8 bits: 4.13 bits a weight, not 4.5"),
      FPDIST_KEY(device, "where the model lives", Valid{.values = "auto | cpu | cuda", .check = check_one_of}),
      FPDIST_KEY(deterministic, "the same run gives the same bits; false allows a GPU faster kernels"),
      FPDIST_KEY(gradient_checkpointing, "keep each block's input only and compute the block again in backward")};
  return kKeys;
}

}  // namespace fpdist::model
