#pragma once
// arch (private): the parts of a config.json that Llama and its descendants share. A family reads the sizes, sets what
// is its own on the layer, and finishes.

#include <optional>

#include "fpdist/arch/model.hpp"
#include "src/arch/fields.hpp"

namespace fpdist::arch {

/// What an absent field stands for in a family.
struct Absent {
  std::optional<int64_t> kv_heads = std::nullopt;  ///< none: as many as attention heads, as with a null
  std::optional<int64_t> head_dim = std::nullopt;  ///< none: hidden_size / attention heads, as with a null
  int64_t max_position_embeddings = 2048;
};

/// A model that is being read; its layers are copies of `layer`.
struct Decoder {
  Model model;
  Layer layer;
};

/// Refuses by name what no family here computes, then reads the sizes.
Decoder read_sizes(const Fields& fields, const Absent& absent);

/// Ties, rotary embedding, and whether the heads fit each other.
Model finish(Decoder decoder, const Fields& fields);

}  // namespace fpdist::arch
