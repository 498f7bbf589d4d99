#include "src/comm/gather_parts.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <numeric>

#include "src/core/index.hpp"

namespace fpdist::comm {

GatheredParts gather_parts(const at::Tensor& mine, Communicator& axis) {
  std::vector<int64_t> counts(index(axis.size()), 1);
  at::Tensor sizes = at::empty({axis.size()}, at::kLong);
  axis.all_gather_v(at::full({1}, mine.numel(), at::kLong), sizes, counts);
  std::copy_n(sizes.const_data_ptr<int64_t>(), counts.size(), counts.begin());
  at::Tensor all = at::empty({std::accumulate(counts.begin(), counts.end(), int64_t{0})}, mine.scalar_type());
  axis.all_gather_v(mine, all, counts);
  return {.all = all, .counts = std::move(counts)};
}

std::vector<std::string> gather_texts(const std::string& mine, Communicator& axis) {
  const at::Tensor bytes = at::empty({static_cast<int64_t>(mine.size())}, at::kByte);
  std::copy(mine.begin(), mine.end(), bytes.mutable_data_ptr<uint8_t>());
  const GatheredParts parts = gather_parts(bytes, axis);
  std::vector<std::string> texts;
  const uint8_t* next = parts.all.const_data_ptr<uint8_t>();
  for (const int64_t count : parts.counts) {
    texts.emplace_back(next, next + count);
    next += count;
  }
  return texts;
}

}  // namespace fpdist::comm
