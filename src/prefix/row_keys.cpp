#include "src/prefix/row_keys.hpp"

#include "src/core/index.hpp"
#include "src/core/mix.hpp"

namespace fpdist::prefix {

std::vector<int64_t> row_keys(const TreeLayout& layout) {
  std::vector<int64_t> keys(index(layout.rows()));
  for (const Node& node : layout.node) {  // parents come before children
    uint64_t key = node.parent < 0 ? 0 : static_cast<uint64_t>(keys[index(layout.node[index(node.parent)].end - 1)]);
    for (int32_t row = node.begin; row < node.end; ++row) {
      key = mixed(key + kGolden * (static_cast<uint64_t>(layout.token[index(row)]) + 1));
      keys[index(row)] = static_cast<int64_t>(key);
    }
  }
  return keys;
}

}  // namespace fpdist::prefix
