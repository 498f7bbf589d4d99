#pragma once
// comm, private: ranks as threads of one process. A receiver copies straight out of the sender's buffer; every wait is
// on one condition variable of the job, has a deadline and ends at an abort.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "src/comm/host/transport.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {

/// What the threads share; everything in it is guarded by `mutex`.
struct ThreadJob {
  struct Post {
    enum class Fate { kQueued, kTaken, kDone };
    Message message;
    Fate fate = Fate::kQueued;
  };
  using Key = std::tuple<int, int, int>;  ///< tag, sender, receiver

  ThreadJob(int ranks, const CommOptions& options) : ranks(ranks), options(options), journals(index(ranks)) {}
  const int ranks;
  const CommOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::shared_ptr<Journal>> journals;  ///< [ranks] null before a rank has come
  std::map<Key, std::deque<std::shared_ptr<Post>>> boxes;
  bool dead = false;
  std::string reason;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadJob> job, int rank);
  ~ThreadTransport() override;
  int rank() const override { return rank_; }
  int size() const override { return job_->ranks; }
  const CommOptions& options() const override { return job_->options; }
  std::unique_ptr<Work> start(Exchange exchange) override;
  void abort(const std::string& reason) noexcept override;

 private:
  struct Flight;  ///< one exchange whose messages are posted
  class Started;
  using Lock = std::unique_lock<std::mutex>;
  void post(Flight& flight);
  void wait_for(const Flight& flight);
  bool progress(Lock& lock, std::string& error);
  bool take_arrived(Flight& flight, Lock& lock, std::string& error);
  void die(const std::string& reason, Lock& lock);
  void listen();

  std::shared_ptr<ThreadJob> job_;
  int rank_;
  TurnTable turns_;
  std::vector<std::shared_ptr<Flight>> flights_;  ///< started and not done, in that order
};

}  // namespace fpdist::comm
