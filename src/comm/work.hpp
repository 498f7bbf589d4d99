#pragma once
// comm, private: Works made of others.

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

class DoneWork final : public Work {
 public:
  void wait() override {}
  bool done() override { return true; }
};

inline std::unique_ptr<Work> done_work() { return std::make_unique<DoneWork>(); }

/// Waits for `first`, then does the rest of the call.
class ThenWork final : public Work {
 public:
  ThenWork(std::unique_ptr<Work> first, std::function<void()> then)
      : first_(std::move(first)), then_(std::move(then)) {}
  void wait() override {
    first_->wait();
    then_();
  }
  bool done() override { return first_->done(); }

 private:
  std::unique_ptr<Work> first_;
  std::function<void()> then_;
};

class AllWork final : public Work {
 public:
  explicit AllWork(std::vector<std::unique_ptr<Work>> works) : works_(std::move(works)) {}
  void wait() override {
    for (const auto& work : works_) work->wait();
  }
  bool done() override {
    return std::all_of(works_.begin(), works_.end(), [](const auto& work) { return work->done(); });
  }

 private:
  std::vector<std::unique_ptr<Work>> works_;
};

}  // namespace fpdist::comm
