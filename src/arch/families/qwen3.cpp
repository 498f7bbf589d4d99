// Qwen 3: heads of q and k are normalised.

#include "src/arch/families/decoder.hpp"
#include "src/arch/families/family.hpp"

namespace fpdist::arch {
namespace {

Model read(const Fields& fields) {
  Decoder decoder = read_sizes(fields, {.kv_heads = 32, .head_dim = 128, .max_position_embeddings = 32768});
  Attention& attention = decoder.layer.attention;
  attention.qk_norm = true;
  attention.qkv_bias = attention.o_bias = fields.flag("attention_bias");
  return finish(std::move(decoder), fields);
}

}  // namespace

extern const Family kQwen3{.model_type = "qwen3", .classes = "Qwen3", .read = read};

}  // namespace fpdist::arch
