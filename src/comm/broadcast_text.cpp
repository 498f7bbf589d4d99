#include "src/comm/broadcast_text.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstdint>

#include "src/core/index.hpp"

namespace fpdist::comm {

std::string broadcast_text(std::string words, int root, Communicator& axis) {
  at::Tensor size = at::full({1}, static_cast<int64_t>(words.size()), at::kLong);
  axis.broadcast(size, root);
  words.resize(index(size.item<int64_t>()));
  if (words.empty()) return words;
  at::Tensor bytes = at::empty({size.item<int64_t>()}, at::kByte);
  std::copy(words.begin(), words.end(), bytes.mutable_data_ptr<uint8_t>());
  axis.broadcast(bytes, root);
  std::copy_n(bytes.const_data_ptr<uint8_t>(), words.size(), words.begin());
  return words;
}

}  // namespace fpdist::comm
