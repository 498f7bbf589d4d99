#pragma once
// comm, private: Works made of others.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

/// Nothing to wait for.
class DoneWork final : public Work {
 public:
  void wait() override {}
  bool done() override { return true; }
};

inline std::unique_ptr<Work> done_work() { return std::make_unique<DoneWork>(); }

/// `first`, and after its wait the rest of the call.
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

/// Several as one.
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

/// A Work that stands in the journal from its start to its wait. For device tensors "done" means there that the current
/// stream waits for it.
class RecordedWork final : public Work {
 public:
  /// `kept` lives as long as the Work does.
  RecordedWork(std::shared_ptr<Journal> journal, int64_t id, std::unique_ptr<Work> work,
               std::shared_ptr<const void> kept = nullptr)
      : kept_(std::move(kept)), journal_(std::move(journal)), id_(id), work_(std::move(work)) {}
  void wait() override {
    try {
      work_->wait();
    } catch (...) {
      journal_->close(id_, CallRecord::State::kFailed);
      throw;
    }
    journal_->close(id_, CallRecord::State::kDone);
  }
  bool done() override { return work_->done(); }

 private:
  std::shared_ptr<const void> kept_;
  std::shared_ptr<Journal> journal_;
  int64_t id_;
  std::unique_ptr<Work> work_;
};

}  // namespace fpdist::comm
