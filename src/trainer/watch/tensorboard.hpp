#pragma once
// trainer (private): the files that TensorBoard shows.

#include <string>

#include "src/files/files.hpp"
#include "src/trainer/watch/reporter.hpp"

namespace fpdist::trainer {

/// A file of its own in `folder` for every process of a run: events.out.tfevents.<seconds since 1970>.fpdist, a name
/// behind those that are there, since TensorBoard reads them in that order. Tags are train/<name> and, of evaluations,
/// eval/<name>; the configuration is a text. What is not a number is left out.
class TensorBoard final : public Reporter {
 public:
  /// Makes the folder where it is not there. Throws DiskError.
  TensorBoard(const std::string& folder, const ReportedRun& run);
  void report(const StepMetrics& metrics) override;
  void close() override { file_.close(); }

 private:
  files::AppendFile file_;
};

}  // namespace fpdist::trainer
