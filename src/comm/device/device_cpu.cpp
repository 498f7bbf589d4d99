// The CPU as a Device: nothing is queued, so a point in its work is now.

#include "fpdist/comm/device.hpp"
#include "src/core/clock.hpp"

namespace fpdist::comm {
namespace {

class CpuDevice final : public Device {
 public:
  at::Device where() const override { return at::kCPU; }
  std::string description() const override { return "cpu"; }
  std::unique_ptr<Communicator> extend(std::unique_ptr<Communicator> host) override { return host; }
  at::Tensor upload(const at::Tensor& host) override { return host; }
  void upload_all(std::span<at::Tensor* const>) override {}
  at::Tensor download(const at::Tensor& tensor) override { return tensor; }
  void synchronize() override {}
  MemoryUse memory() const override { return {}; }
  void reset_peak_memory() override {}
  size_t mark() override {
    marks_.push_back(Clock::now());
    return marks_.size() - 1;
  }
  std::vector<double> seconds() override {
    std::vector<double> all;
    for (const Clock::time_point mark : marks_) all.push_back(to_seconds(mark - marks_.front()));
    marks_.clear();
    return all;
  }
  void begin_range(const std::string&) override {}
  void end_range() override {}

 private:
  std::vector<Clock::time_point> marks_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() { return std::make_unique<CpuDevice>(); }

}  // namespace fpdist::comm
