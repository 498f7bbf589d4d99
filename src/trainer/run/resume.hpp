#pragma once
// trainer (private): where a run begins: anew, or from which checkpoint, and what becomes of the files of the run that
// saved it.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

struct ResumePoint {
  std::string directory;  ///< the checkpoint; "": anew
  int64_t step = 0;       ///< of it
  /// It lies in output_dir, whose run goes on.
  bool is_own = false;
  /// "out/checkpoint-40: what is wrong with it", a line each: later ones that this program cannot go on from.
  std::vector<std::string> passed_over = {};
  double seconds = 0;  ///< that looking for it has taken
};

/// Collective, before anything is written. What train.resume_from_checkpoint says: none; a checkpoint, whose files are
/// held against its manifest; or, for auto, the newest in output_dir whose files are whole. Throws ModelFileError for a
/// checkpoint that is not whole, and for auto where there are some and none is.
ResumePoint find_resume_point(Trainer& trainer);

/// Not collective: takes from metrics.jsonl the lines behind this step's, and what is no whole line. Throws DiskError.
void cut_metrics(const std::string& path, int64_t step);

}  // namespace fpdist::trainer
