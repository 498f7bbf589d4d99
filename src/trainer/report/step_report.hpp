#pragma once
// trainer (private): a step's names and numbers. Pure: everything it says stands in what it is told.

#include <cstdint>
#include <map>
#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/core/mesh_shape.hpp"
#include "src/trainer/report/step_record.hpp"

namespace fpdist::trainer {

/// What a report knows of the job.
struct ReportFacts {
  MeshShape mesh;
  arch::ModelShape model;
  double peak_tflops = 0;  ///< of one rank; 0: unknown
  int passes = 3;          ///< of a forward's operations: with input and weight gradients, or without the latter 2
};

/// The step's line of metrics.jsonl: the loss's and the groups' metrics, planned beside measured, tokens, time,
/// waiting, traffic. `tokens_seen`: by the run so far, this step's with them.
std::map<std::string, double> report_step(const StepRecord& record, const RankSums& sums, int64_t tokens_seen,
                                          const ReportFacts& facts);

/// What the axes of a mesh have carried since it was last asked; at first, since they were made.
class TrafficMeter {
 public:
  std::map<std::string, comm::Traffic> since_last(const comm::Mesh& mesh);
  /// What another meter says was `carried` since this one was last asked is not counted.
  void leave_out(const std::map<std::string, comm::Traffic>& carried);

 private:
  std::map<std::string, comm::Traffic> before_;  // by axis
};

}  // namespace fpdist::trainer
