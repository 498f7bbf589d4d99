#pragma once
// Tests: a communicator whose started all-gathers arrive when they are waited for, not a moment sooner, as late as a
// device's may. Until then the others' slots hold NaN: who reads too early is found out. What was started and waited
// for is written down, per rank.

#include <ATen/ATen.h>

#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/forwarding_communicator.hpp"

namespace fpdist::test {

using Events = std::vector<std::string>;

class LateGathers final : public comm::ForwardingCommunicator {
 public:
  LateGathers(std::unique_ptr<comm::Communicator> inner, std::shared_ptr<Events> events)
      : ForwardingCommunicator(std::move(inner)), events_(std::move(events)) {}

  std::unique_ptr<comm::Work> start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                                 std::span<const int64_t> counts) override {
    at::Tensor arriving = at::empty_like(out);
    inner().all_gather_v(mine.clone(), arriving, counts);
    const auto own = counts.begin() + rank();
    const int64_t begin = std::accumulate(counts.begin(), own, int64_t{0}), end = begin + *own;
    out.narrow(0, 0, begin).fill_(std::numeric_limits<double>::quiet_NaN());
    out.narrow(0, end, out.numel() - end).fill_(std::numeric_limits<double>::quiet_NaN());
    const std::string name = text("gather of ", out.numel());
    events_->push_back("start " + name);
    return std::make_unique<LateWork>(out, arriving, name, events_);
  }

  void keep_buffer(const at::Tensor& buffer) override { kept_.push_back(buffer); }
  const std::vector<at::Tensor>& kept() const { return kept_; }
  std::unique_ptr<comm::Communicator> split(const std::string& axis, int color, int key) override {
    return std::make_unique<LateGathers>(inner().split(axis, color, key), events_);
  }

 private:
  class LateWork final : public comm::Work {
   public:
    LateWork(at::Tensor out, at::Tensor arriving, std::string name, std::shared_ptr<Events> events)
        : out_(std::move(out)), arriving_(std::move(arriving)), name_(std::move(name)), events_(std::move(events)) {}
    void wait() override {
      out_.copy_(arriving_);
      events_->push_back("wait for " + name_);
    }
    bool done() override { return false; }

   private:
    at::Tensor out_, arriving_;
    std::string name_;
    std::shared_ptr<Events> events_;
  };

  std::shared_ptr<Events> events_;
  std::vector<at::Tensor> kept_;
};

}  // namespace fpdist::test
