#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/files/files.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

template <typename Call>
void disk(const fs::path& path, const char* action, Call call) {
  std::error_code error;
  call(error);
  check<DiskError>(!error, path.string(), ": ", action, ": ", error.message(), "; choose another output folder");
}

/// What an earlier export left in a folder where one is built; the folder too where nothing else is in it.
void remove_leftovers(const fs::path& folder, const KeepFile& keeps) {
  std::error_code ignored;
  if (!fs::is_directory(fs::symlink_status(folder, ignored))) return;  // a link is somebody's own
  for (const std::string& file : export_files_in(folder))
    if (!keeps || !keeps(file)) disk(file, "cannot be removed", [&](auto& error) { fs::remove(file, error); });
  if (fs::is_empty(folder, ignored)) fs::remove(folder, ignored);
}

/// Where an export is built: a folder that nobody has made before, removed with all it holds unless publish() was
/// reached.
class Staging {
 public:
  explicit Staging(const fs::path& target) : target_(target) {
    for (const fs::path& left : staging_folders_of(target)) remove_leftovers(left, {});  // of a killed run
    if (target_.has_parent_path())
      disk(target_.parent_path(), "cannot be created",
           [&](auto& error) { fs::create_directories(target_.parent_path(), error); });
    bool is_new = false;
    for (int number = 0; !is_new; ++number) {
      folder_ = files::AtomicFile::temporary_name(target.string(), number);
      disk(folder_, "cannot be created", [&](auto& error) {
        is_new = fs::create_directory(folder_, error);
        if (!is_new && fs::exists(fs::symlink_status(folder_))) error.clear();  // somebody's own: the next name
      });
    }
  }
  ~Staging() { remove(); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  /// A new directory appears by one rename; in an existing one files are replaced one by one and older weights removed.
  void publish() {
    files::sync_directory(folder_.string());
    if (std::error_code ignored; !fs::exists(target_, ignored)) {
      disk(target_, "cannot be renamed from its .tmp", [&](auto& error) { fs::rename(folder_, target_, error); });
      files::sync_directory(target_.has_parent_path() ? target_.parent_path().string() : ".");
      return;
    }
    std::set<std::string> written;
    for (const auto& entry : fs::directory_iterator(folder_)) written.insert(entry.path().filename().string());
    for (const auto& name : written)
      disk(target_ / name, "cannot be replaced", [&](auto& e) { fs::rename(folder_ / name, target_ / name, e); });
    for (const auto& name : stale_weights(written))
      disk(target_ / name, "cannot be removed", [&](auto& error) { fs::remove(target_ / name, error); });
    files::sync_directory(target_.string());
  }

 private:
  std::vector<std::string> stale_weights(const std::set<std::string>& written) const {
    std::vector<std::string> stale;
    for (const auto& entry : fs::directory_iterator(target_)) {
      const std::string name = entry.path().filename().string();
      if (is_weights(name) && written.count(name) == 0) stale.push_back(name);
    }
    return stale;
  }
  void remove() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  fs::path target_, folder_;
};

void copy_companions(const std::string& from, const Staging& staging) {
  for (const std::string& name : companion_names(from)) files::write(staging.file(name), read_companion(from, name));
}

/// Consecutive tensors per shard: where each begins, and the end. A tensor larger than the limit has a shard of its
/// own.
std::vector<size_t> split_shards(std::span<const TensorSpec> specs, int64_t max_bytes) {
  std::vector<size_t> bounds{0};
  int64_t bytes = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto size = static_cast<int64_t>(byte_size(specs[i]));
    if (i > bounds.back() && bytes + size > max_bytes) {
      bounds.push_back(i);
      bytes = 0;
    }
    bytes += size;
  }
  bounds.push_back(specs.size());
  return bounds;
}

std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void write_weights(std::span<const TensorSpec> specs, const FetchTensor& fetch, int64_t max_shard_bytes,
                   const Staging& staging) {
  const auto bounds = split_shards(specs, max_shard_bytes);
  const size_t shards = bounds.size() - 1;
  if (shards == 1) return write_safetensors(staging.file("model.safetensors"), specs, fetch);
  nlohmann::ordered_json index;
  uint64_t total = 0;
  for (const TensorSpec& spec : specs) total += byte_size(spec);
  index["metadata"]["total_size"] = total;
  for (size_t i = 0; i < shards; ++i) {
    const std::string file = shard_name(i, shards);
    const auto part = specs.subspan(bounds[i], bounds[i + 1] - bounds[i]);
    write_safetensors(staging.file(file), part, [&](size_t own) { return fetch(bounds[i] + own); });
    for (const TensorSpec& spec : part) index["weight_map"][spec.name] = file;
  }
  files::write(staging.file("model.safetensors.index.json"), index.dump(2) + "\n");
}

}  // namespace

void export_hf_directory(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch,
                         const ExportOptions& options) {
  check_specs(path, specs);
  Staging staging(without_slash(path));
  if (!options.copy_from.empty()) copy_companions(options.copy_from, staging);
  write_weights(specs, fetch, options.max_shard_bytes, staging);
  files::write(staging.file("config.json"), options.config_json);
  staging.publish();
}

void remove_hf_export(const std::string& path, const KeepFile& keeps) {
  const fs::path folder = without_slash(path);
  for (const fs::path& staging : staging_folders_of(folder)) remove_leftovers(staging, keeps);
  if (std::error_code ignored; !fs::is_directory(folder, ignored)) return;
  for (const std::string& file : export_files_in(folder))
    if (!keeps || !keeps(file)) disk(file, "cannot be removed", [&](auto& error) { fs::remove(file, error); });
  // A link to a folder is the user's own.
  if (fs::is_empty(folder) && !fs::is_symlink(folder))
    disk(folder, "cannot be removed", [&](auto& error) { fs::remove(folder, error); });
}

void export_hf_directory(const std::string& path, const NamedTensors& tensors, const ExportOptions& options) {
  export_hf_directory(
      path, specs_of(path, tensors), [&](size_t index) { return tensors[index].second; }, options);
}

}  // namespace fpdist::checkpoint
