#pragma once
// core: where words go. The library never prints: whoever runs it hands in a LogSink.

#include <string_view>

namespace fpdist {

enum class LogLevel { kInfo, kWarning, kError };

/// Receives finished lines (no newline). Implementations must be callable from any thread.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void write(LogLevel level, std::string_view line) = 0;
  /// The newest state of something that goes on; a terminal may overwrite the one before. Plain sinks treat it as info.
  virtual void progress(std::string_view line) { write(LogLevel::kInfo, line); }
  void info(std::string_view line) { write(LogLevel::kInfo, line); }
  void warning(std::string_view line) { write(LogLevel::kWarning, line); }
  void error(std::string_view line) { write(LogLevel::kError, line); }
};

/// Drops every line; for tests and for callers that want silence.
class NullLog final : public LogSink {
 public:
  void write(LogLevel, std::string_view) override {}
};

}  // namespace fpdist
