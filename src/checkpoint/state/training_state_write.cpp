// Writing: what is changed on the disk, in the order in which a power loss may interrupt it.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/checkpoint/state/shard.hpp"
#include "src/checkpoint/state/state_files.hpp"
#include "src/checkpoint/state/training_state.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"
#include "src/core/version.hpp"
#include "src/files/files.hpp"
#include "src/files/folders.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

StateFile described(const std::string& name, uint64_t size, const Checksum& sum) {
  return {.name = name, .size = size, .xxh3_128 = to_string(sum.value())};
}

/// A file whose bytes are summed up as they come.
class SummedFile {
 public:
  explicit SummedFile(const std::string& path) : file_(path) {}
  void append(const void* data, size_t bytes) {
    sum_.add(data, bytes);
    file_.append(data, bytes);
    size_ += bytes;
  }
  StateFile commit(const std::string& name) {
    file_.commit();
    return described(name, size_, sum_);
  }

 private:
  files::AtomicFile file_;
  Checksum sum_;
  uint64_t size_ = 0;
};

StateFile write_text(const std::string& folder, const std::string& name, const std::string& bytes) {
  write_companion(folder, name, bytes);
  return described(name, bytes.size(), Checksum().add(bytes.data(), bytes.size()));
}

/// The shards are there as their ranks wrote them, and nothing else of a checkpoint.
void keep_only(const std::string& staging, std::span<const StateFile> shards) {
  std::set<std::string> keep;
  for (const StateFile& shard : shards) {
    std::error_code error;
    const uint64_t size = fs::file_size(staging + "/" + shard.name, error);
    check<DiskError>(!error && size == shard.size, staging, "/", shard.name, ": its rank wrote ", shard.size,
                     " bytes that are not here: is the output folder on a file system that all nodes share?");
    keep.insert(shard.name);
  }
  for (const std::string& name : files_of_model(staging))
    if (is_of_state(name) && !keep.contains(name)) files::remove(staging + "/" + name);
}

/// What is not a checkpoint's of the files in `older`, once those are gone, has its place in `directory` again.
void remove_older(const std::string& older, const std::string& directory) {
  remove_state_files(older);
  if (std::error_code unknown; !fs::is_directory(fs::symlink_status(older, unknown))) return;
  for (const auto& entry : fs::directory_iterator(older)) {
    const std::string place = (directory / entry.path().filename()).string();
    if (!is_there(place)) files::rename(entry.path().string(), place);
  }
  remove_state_files(older);
}

/// What a kill left of a replacement in two steps.
void recover_replaced(const StateFolder& folder) {
  if (!is_there(folder.replaced)) return;
  if (is_there(folder.directory)) return remove_older(folder.replaced, folder.directory);
  files::rename(folder.replaced, folder.directory);
}

/// The folder that is built takes its name; an older one is where the result says.
std::string publish(const StateFolder& folder) {
  if (!is_there(folder.directory)) {
    files::rename(folder.staging, folder.directory);
    return folder.staging;
  }
  if (files::exchange(folder.staging, folder.directory)) return folder.staging;
  files::rename(folder.directory, folder.replaced);
  try {
    files::rename(folder.staging, folder.directory);
  } catch (const DiskError&) {
    files::rename(folder.replaced, folder.directory);
    throw;
  }
  return folder.replaced;
}

}  // namespace

StateFile write_state_shard(const std::string& directory, int rank, int ranks, std::span<const PieceSpec> pieces,
                            const FetchTensor& fetch) {
  const std::string staging = StateFolder(directory).staging, name = shard_name(rank, ranks),
                    path = staging + "/" + name;
  std::map<std::string, std::string> metadata;
  const std::vector<TensorSpec> specs = specs_of_pieces(pieces, metadata);
  check_specs(path, specs);
  const FileLayout layout = lay_out(specs, metadata);
  files::make_folder(staging);
  try {
    SummedFile file(path);
    file.append(layout.header.data(), layout.header.size());
    for (const size_t piece : layout.order) {
      const at::Tensor value = fetch(piece);
      check(value.defined() && value.is_cpu() && value.is_contiguous() && value.scalar_type() == specs[piece].dtype &&
                value.sizes() == specs[piece].shape,
            path, ": the value of \"", specs[piece].name, "\" is not as its region says");
      file.append(value.const_data_ptr(), value.nbytes());
    }
    return file.commit(name);
  } catch (const DiskError&) {
    std::error_code ignored;    // the first error is the one to hear of
    fs::remove(path, ignored);  // a name whose folder could not be synced, or what an earlier try left
    throw;
  }
}

StateFile write_state_shard(const std::string& directory, int rank, int ranks, std::span<const StatePiece> pieces) {
  std::vector<PieceSpec> specs;
  for (const StatePiece& piece : pieces) {
    check(piece.value.defined(), directory, ": a piece of \"", piece.name, "\" is undefined");
    specs.push_back({piece.name, piece.value.scalar_type(), piece.region});
  }
  return write_state_shard(directory, rank, ranks, specs, [&](size_t piece) { return pieces[piece].value; });
}

void commit_state(const std::string& directory, std::span<const StateFile> shards, const StateTexts& texts) {
  check(!shards.empty(), directory, ": a checkpoint of no shards");
  const StateFolder folder(directory);
  recover_replaced(folder);
  keep_only(folder.staging, shards);
  Manifest manifest{.program = std::string(version()),
                    .ranks = static_cast<int>(shards.size()),
                    .files = {shards.begin(), shards.end()}};
  manifest.files.push_back(write_text(folder.staging, kStateFile, texts.state_json));
  manifest.files.push_back(write_text(folder.staging, kConfigFile, texts.config_json));
  if (!texts.settings_yaml.empty())
    manifest.files.push_back(write_text(folder.staging, kSettingsFile, texts.settings_yaml));
  if (!texts.companions_from.empty())
    for (const std::string& name : companion_names(texts.companions_from))
      manifest.files.push_back(write_text(folder.staging, name, read_companion(texts.companions_from, name)));
  files::write(folder.staging + "/" + kManifestFile, to_json(manifest));
  const std::string older = publish(folder);
  try {
    remove_older(older, folder.directory);
  } catch (const DiskError&) {
    // The new one is in its place and whole: what is left of the old one goes with the next discard_state.
  }
}

void discard_state(const std::string& directory) {
  const StateFolder folder(directory);
  recover_replaced(folder);
  remove_state_files(folder.staging);
}

void remove_state(const std::string& directory) { remove_state_files(StateFolder(directory).directory); }

}  // namespace fpdist::checkpoint
