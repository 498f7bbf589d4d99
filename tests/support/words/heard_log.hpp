#pragma once
// Tests: a log that keeps what it is told.

#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/log.hpp"

namespace fpdist::test {

class HeardLog final : public LogSink {
 public:
  using Line = std::pair<LogLevel, std::string>;
  void write(LogLevel level, std::string_view line) override {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(level, line);
  }
  void progress(std::string_view line) override {
    const std::lock_guard lock(mutex_);
    progress_.emplace_back(line);
  }
  std::vector<Line> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  std::vector<std::string> progressed() const {
    const std::lock_guard lock(mutex_);
    return progress_;
  }
  /// Every line but progress, its level ahead of it.
  std::string said() const {
    std::string all;
    for (const auto& [level, line] : lines())
      all += (level == LogLevel::kInfo ? "info " : level == LogLevel::kWarning ? "warning " : "error ") + line + "\n";
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Line> lines_;
  std::vector<std::string> progress_;
};

}  // namespace fpdist::test
