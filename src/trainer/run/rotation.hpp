#pragma once
// trainer (private): which checkpoints of an output folder stay when a new one has come.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fpdist::trainer {

/// Step of a folder called checkpoint-<step>; 0 for any other.
int64_t step_of_folder(const std::string& directory);

struct Rotation {
  std::string output_dir;
  int64_t limit = 0;   ///< train.save_total_limit
  int64_t newest = 0;  ///< step of the one that has come; what is called newer is no part of this run
  int64_t best = 0;    ///< step of the one that stays whatever its age; 0: none
};

/// Of the checkpoints of these steps, newest first, those that go: what is over the limit, oldest first, never the
/// newest nor the best.
std::vector<int64_t> steps_to_remove(std::vector<int64_t> steps, const Rotation& rotation);

/// Files that are somebody's input.
using SparedFile = std::function<bool(const std::string& file)>;

/// Not collective: removes training states over the limit; one that holds a spared file stays. Throws DiskError.
void remove_older_states(const Rotation& rotation, const SparedFile& spares);
/// The same for Hugging Face directories called checkpoint-<step>, less the spared files.
void remove_older_exports(const Rotation& rotation, const SparedFile& spares);

}  // namespace fpdist::trainer
