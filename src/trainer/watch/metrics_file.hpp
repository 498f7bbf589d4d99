#pragma once
// trainer (private): metrics.jsonl.

#include <string>

#include "src/files/files.hpp"
#include "src/trainer/watch/reporter.hpp"

namespace fpdist::trainer {

/// One object a line, names in alphabetical order after step; what is not a number is null.
class MetricsFile final : public Reporter {
 public:
  MetricsFile(const std::string& path, files::AppendFile::Open open);  ///< throws DiskError
  /// Throws DiskError when the line could not be written whole.
  void report(const StepMetrics& metrics) override;
  void close() override { file_.close(); }

 private:
  files::AppendFile file_;
};

}  // namespace fpdist::trainer
