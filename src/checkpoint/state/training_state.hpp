#pragma once
// checkpoint: training states, from which a run goes on, on any mesh. The folder checkpoint-<step>/ holds
//   shard-00003-of-00008.safetensors   flat pieces of tensors, one file a rank; the header's metadata says of each
//   piece
//                                      which elements of the whole tensor it is
//   config.json, tokenizer files       as an export has them
//   state.json                         all that is no tensor, in the words of whoever saves
//   config.resolved.yaml               the run's settings, for people
//   manifest.json                      written last: format, number of ranks, size and XXH3-128 of every other file
// It is built in checkpoint-<step>.tmp/ and renamed when every file, and the folder, is synced: a folder without a
// manifest that fits is no checkpoint. An older one of its name changes places with it in one step; where the file
// system cannot (NFS), it is called checkpoint-<step>.replaced from before the rename until after it, and counts.
// Nothing here is collective; who calls which part when is said at each.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"

namespace fpdist::checkpoint {

/// Elements of a whole tensor that one rank holds: a range of the flattened (row-major) slice [from, from + extent) of
/// `dim`; dim -1: of the flattened whole, from and extent being 0.
struct Region {
  std::vector<int64_t> shape;  ///< of the whole tensor
  int64_t dim = -1, from = 0, extent = 0;
  int64_t begin = 0, size = 0;  ///< range of the flattened slice
};

/// What stands behind a weight's name in the names of its state's tensors: the kinds of one weight are tensors of their
/// own, "model.norm.weight/master".
inline constexpr const char *kMaster = "/master", *kExpAvg = "/exp_avg", *kExpAvgSq = "/exp_avg_sq";

/// A piece of a state.
struct StatePiece {
  std::string name;
  Region region;
  at::Tensor value;  ///< [region.size], contiguous, on the CPU
};

/// A file of a checkpoint, as its manifest has it.
struct StateFile {
  std::string name;
  uint64_t size = 0;
  std::string xxh3_128;  ///< 32 hexadecimal digits
};

/// `rank`'s shard into the folder `directory`.tmp, which is made where it is not there, synced. Every rank, each in
/// its own time, also on a thread of its own. What an earlier try left there under this name is replaced. The pieces of
/// a tensor in all shards together are each of its elements once, all of one dtype and cut along one dim. Throws
/// DiskError and then leaves no file of this shard; ShapeError for a value that does not fit its region.
StateFile write_state_shard(const std::string& directory, int rank, int ranks, std::span<const StatePiece> pieces);

/// What is known of a piece before its value is there.
struct PieceSpec {
  std::string name;
  at::ScalarType dtype;
  Region region;
};

/// The same with one piece in memory at a time: each is asked for once, in the order of the file.
StateFile write_state_shard(const std::string& directory, int rank, int ranks, std::span<const PieceSpec> pieces,
                            const FetchTensor& fetch);

/// What a checkpoint holds beside its shards.
struct StateTexts {
  std::string state_json;
  std::string config_json;
  std::string settings_yaml = {};    ///< "": none
  std::string companions_from = {};  ///< folder whose tokenizer and generation files go along; "": none
};

/// Rank 0, once all ranks' shards are written: the texts, the manifest, every sync and the rename. An older folder of
/// this name is replaced; files in it that are no checkpoint's stay. Throws DiskError, for a shard that is not there
/// too, and then leaves an older folder as it was; ModelFileError for companions that cannot be read.
void commit_state(const std::string& directory, std::span<const StateFile> shards, const StateTexts& texts);

/// Removes what is being built for `directory`, and what a killed run left of that; an older one that was being
/// replaced has its name again. Throws DiskError.
void discard_state(const std::string& directory);

/// discard_state for every checkpoint-<step> in `output_dir` of which a killed run left anything: at a start, before
/// find_states, by one rank. Throws DiskError.
void recover_states(const std::string& output_dir);

/// A checkpoint to go on from. Any number of ranks may open the same one.
class TrainingState {
 public:
  /// Reads manifest and state and looks at every file's size and the shards' headers. Throws ModelFileError naming the
  /// file and what is wrong with it: missing, cut, changed, of a newer format, tensors of which elements are missing.
  explicit TrainingState(const std::string& directory);
  ~TrainingState();
  TrainingState(const TrainingState&) = delete;
  TrainingState& operator=(const TrainingState&) = delete;
  const std::string& directory() const;
  const std::string& state_json() const;
  const std::string& config_json() const;
  int ranks() const;  ///< that saved it
  /// Holds the contents of every parts-th file, beginning with file `part`, against the manifest: `parts` ranks
  /// together read each byte once. Throws ModelFileError naming the file.
  void verify(int part, int parts) const;
  /// Names of all tensors, sorted, and the shape and dtype of one.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  std::vector<int64_t> shape(const std::string& name) const;
  at::ScalarType dtype(const std::string& name) const;
  /// Copies these elements of tensor `name`, of whatever shards have them, into `destination` [region.size], cast to
  /// its dtype; nothing else is read. Throws ModelFileError for a tensor that is absent or of another shape.
  void read(const std::string& name, const Region& region, at::Tensor& destination) const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

/// A folder checkpoint-<step> in an output folder, or checkpoint-<step>.replaced where the other is missing.
struct FoundState {
  int64_t step = 0;
  std::string directory;
  std::string fault;      ///< why no run can go on from it (no manifest, a file that is missing or cut); empty: it can
  bool is_newer = false;  ///< the fault is its format, which a newer program has written
};

/// Those in `output_dir`, newest first; without contents being read.
std::vector<FoundState> find_states(const std::string& output_dir);

/// Removes the checkpoint folder `directory`: the manifest first, so that what a kill leaves is no checkpoint; then
/// every file that a checkpoint has; other files stay, and the folder with them. Throws DiskError.
void remove_state(const std::string& directory);

}  // namespace fpdist::checkpoint
