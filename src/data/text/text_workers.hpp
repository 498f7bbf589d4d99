#pragma once
// data: text workers of one process. Frames go to whoever is idle, answers come back in order.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/data/tokenizer.hpp"
#include "src/core/clock.hpp"

namespace fpdist::data {

/// A worker was lost with the frame of this number.
struct LostFrame {
  size_t frame;
  std::string what;
};

class TextWorkers {
 public:
  /// `command` starts a worker.
  TextWorkers(std::vector<std::string> command, const TextWorkerOptions& options);
  ~TextWorkers();
  /// The first frame of the first worker, which is started for it. Throws DataError.
  const std::string& greeting();
  /// An answer for each frame, in order. Starts more workers, up to the limit, while frames wait. A worker has one
  /// frame at a time and is read while it is written to, so neither can wait for the other. Throws LostFrame; the
  /// workers are gone then.
  std::vector<std::string> run(std::span<const std::string> frames);

 private:
  class Worker;
  Worker& start();
  void give(std::span<const std::string> frames, size_t& next);
  void wait();

  std::vector<std::string> command_;
  TextWorkerOptions options_;
  std::vector<std::unique_ptr<Worker>> worker_;
  std::string greeting_;
};

}  // namespace fpdist::data
