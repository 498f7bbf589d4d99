// What every Device does alike to bring tensors to it: many small ones as one block, and ahead of their use.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::comm {
namespace {

/// `like`'s bytes of a block, from `begin` on, in its dtype and shape.
at::Tensor view_of(const at::Tensor& block, int64_t begin, const at::Tensor& like) {
  return block.narrow(0, begin, static_cast<int64_t>(like.nbytes())).view(like.scalar_type()).view(like.sizes());
}

class AheadOnTheCurrentStream final : public Ahead {
 public:
  void wait() override {}
};

}  // namespace

void Device::upload_all(std::span<at::Tensor* const> tensors) {
  std::vector<int64_t> begin;
  int64_t bytes = 0;
  for (const at::Tensor* tensor : tensors) {
    check(tensor->defined() && tensor->device().is_cpu(), "upload_all: a tensor is not on the host");
    begin.push_back(bytes);
    const auto size = static_cast<int64_t>(tensor->nbytes());
    bytes += (size + kUploadAlignment - 1) / kUploadAlignment * kUploadAlignment;
  }
  const at::Tensor block = staging(bytes);
  for (size_t i = 0; i < tensors.size(); ++i) view_of(block, begin[i], *tensors[i]).copy_(*tensors[i]);
  const at::Tensor there = upload(block);
  for (size_t i = 0; i < tensors.size(); ++i) *tensors[i] = view_of(there, begin[i], *tensors[i]);
}

at::Tensor Device::staging(int64_t bytes) { return at::empty({bytes}, at::TensorOptions(at::kByte)); }

std::unique_ptr<Ahead> Device::run_ahead(const std::function<void()>& make) {
  make();
  return std::make_unique<AheadOnTheCurrentStream>();
}

}  // namespace fpdist::comm
