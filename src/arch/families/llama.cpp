// Llama 1 to 3.

#include "src/arch/families/decoder.hpp"
#include "src/arch/families/family.hpp"

namespace fpdist::arch {
namespace {

Model read(const Fields& fields) {
  Decoder decoder = read_sizes(fields, {.max_position_embeddings = 2048});
  Attention& attention = decoder.layer.attention;
  attention.qkv_bias = attention.o_bias = fields.flag("attention_bias");
  decoder.layer.mlp.bias = fields.flag("mlp_bias");
  return finish(std::move(decoder), fields);
}

}  // namespace

extern const Family kLlama{.model_type = "llama", .classes = "Llama", .read = read};

}  // namespace fpdist::arch
