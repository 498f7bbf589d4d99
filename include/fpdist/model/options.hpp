#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "fpdist/core/dtype.hpp"

namespace fpdist {
struct Key;
}
namespace fpdist::model {

struct ModelOptions {
  /// Hugging Face directory: config.json and *.safetensors. Exactly one of path and preset is given.
  std::string path;
  /// Built-in shape with seeded random weights: tiny (a Llama small enough for 8 ranks on 2 cores).
  std::string preset;
  /// Directory of the frozen model that a loss compares with, of the same architecture. Empty: the model as it is
  /// before the first step.
  std::string ref_path = "";
  /// Seed of a preset's weights and of a new score head.
  uint64_t seed = 0;
  /// float32 | bfloat16 | float64: weights and activations. Weights on disk are cast to it.
  DType dtype = DType::kFloat32;
  /// The linears of the layers lie in 4 bits an element and are made whole, in `dtype`, for each product: QLoRA, beside
  /// an adapter. A directory that bitsandbytes has quantized is read as it is, with or without.
  bool load_in_4bit = false;
  /// How weights are quantized when they are read: in nf4, with scales in 8 bits besides or not.
  std::string bnb_4bit_quant_type = "nf4";
  bool bnb_4bit_use_double_quant = false;
  /// auto | cpu | cuda.
  std::string device = "auto";
  /// The same run gives the same bits. false: a GPU may use kernels that add up in any order (cuDNN's attention).
  bool deterministic = true;
  /// Keep only each block's input and recompute the block in backward.
  bool gradient_checkpointing = false;

  static std::span<const Key> keys();
};

}  // namespace fpdist::model
