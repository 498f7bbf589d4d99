#pragma once
// arch: which weights of a model lie in 4 bits an element, in bitsandbytes' NF4 (kernels/nf4.hpp).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fpdist::arch {

struct Model;

/// Of a directory's quantization_config, or of model.load_in_4bit.
struct Quantization {
  bool is_stored = false;                 ///< the directory's weights lie so; else they become so when they are read
  bool nested = false;                    ///< scales in 8 bits (bnb_4bit_use_double_quant)
  std::vector<std::string> skipped = {};  ///< modules that stay as they are (llm_int8_skip_modules)
};

/// Elements that share a scale, and scales that share theirs.
inline constexpr int64_t kQuantizedBlock = 64, kNestedBlock = 256;

/// Whether the model quantizes the weight: the linears of the layers that are not skipped.
bool is_quantized(const Model& model, std::string_view weight);

/// Elements of all of them.
int64_t quantized_count(const Model& model);

/// Bytes of one of their elements. Scales are not nested where `tp` ranks cut the weights.
double quantized_bytes(const Quantization& quantization, int tp);

/// Throws ConfigError, naming the weight and the degrees that work, where `tp` ranks would cut through blocks.
void check_quantized_cuts(const Model& model, int tp);

}  // namespace fpdist::arch
