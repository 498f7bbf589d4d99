// Qwen 1.5 to 2.5: biases on q, k and v, and no field that says so.

#include "src/arch/families/decoder.hpp"
#include "src/arch/families/family.hpp"

namespace fpdist::arch {
namespace {

Model read(const Fields& fields) {
  Decoder decoder = read_sizes(fields, {.kv_heads = 32, .max_position_embeddings = 32768});
  decoder.layer.attention.qkv_bias = true;
  return finish(std::move(decoder), fields);
}

}  // namespace

extern const Family kQwen2{.model_type = "qwen2", .classes = "Qwen2", .read = read};

}  // namespace fpdist::arch
