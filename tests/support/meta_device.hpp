#pragma once
// support: torch's Meta device as a comm::Device. Its tensors have shapes and no elements, so whatever reads one on the
// way (item(), nonzero(), data_ptr()) throws: a step that runs on it waits for the device nowhere but in download(),
// which is counted. Messages between ranks are not sent.

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fpdist/comm/device.hpp"

namespace fpdist::testing {

// Operators that torch has for the CPU and for GPUs, but for Meta in Python only: shapes, nothing read.

inline at::Tensor meta_index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> shape = self.sizes().vec();
  shape[static_cast<size_t>(dim < 0 ? dim + self.dim() : dim)] = index.numel();
  return at::empty(shape, self.options());
}
inline void meta_fused_adamw(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                             at::TensorList, double, double, double, double, double, bool, bool,
                             const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {}
inline std::tuple<at::Tensor, at::Tensor> meta_log_sigmoid(const at::Tensor& self) {
  return {at::empty_like(self), at::empty_like(self)};
}
inline at::Tensor meta_log_sigmoid_backward(const at::Tensor& grad, const at::Tensor&, const at::Tensor&) {
  return at::empty_like(grad);
}
inline at::Tensor& meta_masked_fill(at::Tensor& self, const at::Tensor&, const at::Scalar&) { return self; }

/// Any operator whose last argument `out` has the inputs' broadcast shape.
inline void meta_pointwise_out(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const size_t count = op.schema().arguments().size();
  std::vector<int64_t> shape;
  for (size_t i = stack->size() - count; i + 1 < stack->size(); ++i)
    if ((*stack)[i].isTensor()) shape = at::infer_size((*stack)[i].toTensor().sizes(), shape);
  at::Tensor out = stack->back().toTensor();
  out.resize_(shape);
  torch::jit::drop(*stack, count);
  torch::jit::push(*stack, out);
}

inline at::Tensor meta_where(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other) {
  return at::empty(at::infer_size(condition.sizes(), at::infer_size(self.sizes(), other.sizes())), self.options());
}

inline at::Tensor meta_extreme(const at::Tensor& self) { return at::empty({}, self.options()); }

/// Call from TORCH_LIBRARY_IMPL(aten, Meta, m), once in a program.
inline void register_meta_operators(torch::Library& m) {
  m.impl("index_select", meta_index_select);
  m.impl("_fused_adamw_", meta_fused_adamw);
  m.impl("log_sigmoid_forward", meta_log_sigmoid);
  m.impl("log_sigmoid_backward", meta_log_sigmoid_backward);
  m.impl("where.self", meta_where);
  m.impl("min", meta_extreme);
  m.impl("max", meta_extreme);
  for (const char* name : {"abs.out", "logical_not.out", "logical_and.out", "logical_or.out", "pow.Scalar_out"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&meta_pointwise_out>());
  m.impl("masked_fill_.Scalar", meta_masked_fill);
}

class MetaCommunicator final : public comm::Communicator {
 public:
  explicit MetaCommunicator(std::unique_ptr<comm::Communicator> host) : host_(std::move(host)) {}
  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& axis() const override { return host_->axis(); }
  void group_begin() override { host_->group_begin(); }
  void send(const at::Tensor& tensor, int peer) override {
    if (!tensor.is_meta()) host_->send(tensor, peer);
  }
  void receive(at::Tensor& tensor, int peer) override {
    if (!tensor.is_meta()) host_->receive(tensor, peer);
  }
  void group_end() override { host_->group_end(); }
  std::unique_ptr<comm::Work> group_start() override { return host_->group_start(); }
  void all_reduce(at::Tensor& tensor, comm::ReduceOp op) override {
    if (!tensor.is_meta()) host_->all_reduce(tensor, op);
  }
  void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) override {
    if (!mine.is_meta()) host_->all_gather_v(mine, out, counts);
  }
  void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) override {
    if (!in.is_meta()) host_->reduce_scatter_v(in, mine, counts);
  }
  void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                    std::span<const int64_t> out_counts) override {
    if (!in.is_meta()) host_->all_to_all_v(in, in_counts, out, out_counts);
  }
  void broadcast(at::Tensor& tensor, int root) override {
    if (!tensor.is_meta()) host_->broadcast(tensor, root);
  }
  void barrier() override { host_->barrier(); }
  comm::Traffic traffic() const override { return host_->traffic(); }
  std::unique_ptr<comm::Communicator> split(const std::string& axis, int color, int key) override {
    return std::make_unique<MetaCommunicator>(host_->split(axis, color, key));
  }
  void abort(const std::string& reason) noexcept override { host_->abort(reason); }

 private:
  std::unique_ptr<comm::Communicator> host_;
};

class MetaDevice : public comm::Device {
 public:
  /// `downloads` is counted up; it must outlive the device.
  explicit MetaDevice(int& downloads) : downloads_(downloads) {}
  at::Device where() const override { return at::kMeta; }
  std::string description() const override { return "meta"; }
  std::unique_ptr<comm::Communicator> extend(std::unique_ptr<comm::Communicator> host) override {
    return std::make_unique<MetaCommunicator>(std::move(host));
  }
  at::Tensor upload(const at::Tensor& host) override { return host.to(at::kMeta); }
  at::Tensor download(const at::Tensor& tensor) override {
    ++downloads_;
    return at::zeros(tensor.sizes(), at::TensorOptions(tensor.scalar_type()));
  }
  void synchronize() override { ++downloads_; }
  comm::MemoryUse memory() const override { return {}; }
  void reset_peak_memory() override {}
  size_t mark() override { return marks_++; }
  std::vector<double> seconds() override { return std::vector<double>(std::exchange(marks_, 0), 0.0); }
  void begin_range(const std::string&) override {}
  void end_range() override {}

 private:
  int& downloads_;
  size_t marks_ = 0;
};

}  // namespace fpdist::testing
