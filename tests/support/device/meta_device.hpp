#pragma once
// Tests: torch's Meta device as a comm::Device. Its tensors have shapes and no elements, so whatever reads one on the
// way (item(), nonzero(), data_ptr()) throws: a step that runs on it waits for the device nowhere but in download() and
// synchronize(), which are counted. Messages of Meta tensors are written down and not sent.

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/device/routed_communicator.hpp"
#include "src/comm/work.hpp"

namespace fpdist::test {

/// What the sides of one rank were asked, with the axis.
struct SideLog {
  std::vector<std::string> lines;
  std::string failure;  ///< not empty: the device has failed
};

class WritingSide final : public comm::DeviceSide {
 public:
  WritingSide(SideLog& log, const comm::Communicator& host) : log_(log), axis_(host.axis()) {}
  std::unique_ptr<comm::Work> group(const comm::GroupMessages& messages) override {
    return write(text("group ", messages.sends.size(), " ", messages.receives.size()));
  }
  std::unique_ptr<comm::Work> all_reduce(const at::Tensor&, comm::ReduceOp) override { return write("all_reduce"); }
  std::unique_ptr<comm::Work> all_gather_v(const at::Tensor&, const at::Tensor&, Counts) override {
    return write("all_gather_v");
  }
  std::unique_ptr<comm::Work> reduce_scatter_v(const at::Tensor&, const at::Tensor&, Counts) override {
    return write("reduce_scatter_v");
  }
  std::unique_ptr<comm::Work> all_to_all_v(const at::Tensor&, Counts, const at::Tensor&, Counts) override {
    return write("all_to_all_v");
  }
  std::unique_ptr<comm::Work> broadcast(const at::Tensor&, int) override { return write("broadcast"); }
  void keep_buffer(const at::Tensor&) override { write("keep_buffer"); }
  comm::Traffic traffic() const override { return {.bytes = 1000, .messages = 10}; }
  void check_health() const override { check<CommError>(log_.failure.empty(), log_.failure); }
  void abort(const std::string& reason) noexcept override { write("abort " + reason); }

 private:
  std::unique_ptr<comm::Work> write(const std::string& line) {
    log_.lines.push_back(axis_ + ": " + line);
    return comm::done_work();
  }
  SideLog& log_;
  std::string axis_;
};

class MetaDevice : public comm::Device {
 public:
  /// `waits` is counted up; it must outlive the device.
  explicit MetaDevice(int* waits = nullptr) : waits_(waits) {}
  at::Device where() const override { return at::kMeta; }
  std::string description() const override { return "meta"; }
  std::unique_ptr<comm::Communicator> extend(std::unique_ptr<comm::Communicator> host) override {
    const auto side = [this](comm::Communicator& ranks) { return std::make_unique<WritingSide>(log, ranks); };
    return std::make_unique<comm::RoutedCommunicator>(std::move(host), side, at::kMeta);
  }
  at::Tensor upload(const at::Tensor& host) override { return host.to(at::kMeta); }
  /// Zeros.
  at::Tensor download(const at::Tensor& tensor) override {
    synchronize();
    return at::zeros(tensor.sizes(), at::TensorOptions(tensor.scalar_type()));
  }
  void synchronize() override {
    if (waits_ != nullptr) ++*waits_;
  }
  comm::MemoryUse memory() const override { return {}; }
  void reset_peak_memory() override {}
  size_t mark() override { return marks_++; }
  std::vector<double> seconds() override { return std::vector<double>(std::exchange(marks_, 0), 0.0); }
  void begin_range(const std::string&) override {}
  void end_range() override {}

  SideLog log;

 private:
  int* waits_;
  size_t marks_ = 0;
};

}  // namespace fpdist::test
