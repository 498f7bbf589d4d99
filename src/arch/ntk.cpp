#include "fpdist/arch/ntk.hpp"

#include "fpdist/arch/model.hpp"

namespace fpdist::arch {

bool is_of_ntk(std::string_view parameter) { return parameter.ends_with(kNtkValues) || parameter.ends_with(kNtkKeys); }

std::vector<std::pair<std::string, std::vector<int64_t>>> ntk_parameters(const Model& model) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> all;
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    const Attention& attention = model.layers[layer].attention;
    const std::string name = "model.layers." + std::to_string(layer);
    all.emplace_back(name + kNtkValues, std::vector{attention.heads * attention.head_dim, attention.head_dim});
    all.emplace_back(name + kNtkKeys, std::vector{attention.heads, attention.head_dim});
  }
  return all;
}

}  // namespace fpdist::arch
