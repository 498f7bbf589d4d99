#pragma once
// trainer (private): StateSaver writes training states, beside the steps that follow. A thread of its own copies a
// rank's pieces to the host, while the next step's forward and backward run, and writes them; when every rank's are
// written rank 0 commits them, on a thread as well. What the threads have come to the ranks tell each other in
// advance(), between steps: the threads talk to nobody.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "fpdist/trainer/trainer.hpp"
#include "src/checkpoint/state/training_state.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

/// What rank 0 calls on the thread that commits, ahead of the commit and behind it; either may be empty.
struct SaveHooks {
  std::function<void()> committing = {}, saved = {};
};

class StateSaver {
 public:
  /// Both must outlive it.
  StateSaver(const Job& job, Weights& weights) : job_(job), weights_(weights) {}

  /// Collective, as all below but is_under_way() and doing(). The weights as they are now, to become `directory`; rank
  /// 0 gives the texts and the hooks. Returns at once; the
  /// weights' next update waits until they are copied. What is under way is finished first. Throws DiskError for that.
  void begin(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks);
  /// The same, and returns when it is there. Nothing is copied that lies on the host.
  void save(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks);
  /// Between steps: a save goes on where all ranks can. Never waits for a disk. Throws DiskError, on every rank the
  /// same, where a rank's thread could not write, and then has removed what there was of the checkpoint.
  void advance();
  /// Waits for what is under way, as advance() goes on with it.
  void finish();
  /// The same on every rank.
  bool is_under_way() const { return phase_ != Phase::kNone; }
  /// "writing DIRECTORY"; "" where nothing is under way.
  std::string doing() const;
  /// Of the newest save that is there; this rank's. Not collective.
  SaveSeconds seconds() const { return seconds_; }

 private:
  enum class Phase { kNone, kWriting, kCommitting };
  void start(const std::string& directory, checkpoint::StateTexts texts, SaveHooks hooks,
             std::vector<checkpoint::StatePiece> pieces, std::shared_future<void> copied = {});
  void wait_for_copy(const std::shared_future<void>& copied);
  void go_on();
  bool is_done_everywhere() const;
  void commit();
  void end();
  [[noreturn]] void fail(const std::string& why);

  const Job& job_;
  Weights& weights_;
  std::vector<at::Tensor> copies_;  ///< memory for the parts, kept from save to save
  Phase phase_ = Phase::kNone;
  std::string directory_;
  checkpoint::StateTexts texts_;
  SaveHooks hooks_;
  SaveSeconds seconds_;
  double thread_seconds_ = 0;  ///< the threads', one after the other
  std::future<checkpoint::StateFile> shard_;
  std::future<void> commit_;  ///< rank 0
};

}  // namespace fpdist::trainer
