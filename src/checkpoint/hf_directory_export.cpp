#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/prefix_file.hpp"
#include "src/checkpoint/safetensors_header.hpp"
#include "src/files/files.hpp"
#include "src/files/folders.hpp"

namespace fpdist::checkpoint {
namespace {

namespace fs = std::filesystem;

/// Files of exports in `folder`, and the folder where nothing else is in it.
void remove_export(const fs::path& folder, const KeepFile& keeps) {
  for (const std::string& file : export_files_in(folder))
    if (!keeps || !keeps(file)) files::remove(file);
  remove_empty_model(folder.string());
}

/// What an earlier export left in a folder where one is built.
void remove_leftovers(const fs::path& folder, const KeepFile& keeps) {
  std::error_code ignored;
  if (fs::is_directory(fs::symlink_status(folder, ignored))) remove_export(folder, keeps);  // a link is somebody's own
}

/// Where an export is built: a folder that nobody has made before, removed with all it holds unless publish() was
/// reached.
class Staging {
 public:
  explicit Staging(const fs::path& target) : target_(target) {
    for (const fs::path& left : staging_folders_of(target)) remove_leftovers(left, {});  // of a killed run
    files::make_folder(target_.parent_path().string());
    int number = 0;
    do folder_ = files::AtomicFile::temporary_name(target.string(), number++);
    while (!files::make_new_folder(folder_.string()));  // somebody's own: the next name
  }
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string folder() const { return folder_.string(); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  /// A new directory appears by one rename; in an existing one files are replaced one by one and older ones of another
  /// model or adapter removed.
  void publish() {
    files::sync_directory(folder_.string());
    if (std::error_code ignored; !fs::exists(target_, ignored))
      return files::rename(folder_.string(), target_.string());
    const std::vector<std::string> written = files_of_model(folder_.string());
    for (const std::string& name : written) {
      files::make_folder((target_ / name).parent_path().string());
      files::rename((folder_ / name).string(), (target_ / name).string());
    }
    for (const std::string& name : files_of_model(target_.string()))
      if ((is_weights(name) || is_configuration(name)) && !std::binary_search(written.begin(), written.end(), name))
        files::remove((target_ / name).string());
    files::sync_directory(target_.string());
  }

 private:
  fs::path target_, folder_;
};

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

/// One file: an adapter is small.
void write_adapter(std::span<const TensorSpec> specs, const FetchTensor& fetch, const std::string& json,
                   const Staging& staging) {
  const auto [in_file, fetch_it] = as_in_adapter_file({specs.begin(), specs.end()}, fetch);
  write_safetensors(staging.file(kAdapterWeights), in_file, fetch_it);
  files::write(staging.file("adapter_config.json"), json);
}

}  // namespace

void export_hf_directory(const std::string& path, std::span<const TensorSpec> specs, const FetchTensor& fetch,
                         const ExportOptions& options) {
  check_specs(path, specs);
  Staging staging(without_slash(path));
  if (!options.copy_from.empty())
    for (const std::string& name : companion_names(options.copy_from))
      write_companion(staging.folder(), name, read_companion(options.copy_from, name));
  if (!options.adapter_json.empty()) {
    write_adapter(specs, fetch, options.adapter_json, staging);
  } else {
    write_weights(specs, fetch, options.max_shard_bytes, staging);
    files::write(staging.file("config.json"), options.config_json);
  }
  staging.publish();
}

void remove_hf_export(const std::string& path, const KeepFile& keeps) {
  const fs::path folder = without_slash(path);
  for (const fs::path& staging : staging_folders_of(folder)) remove_leftovers(staging, keeps);
  if (std::error_code ignored; fs::is_directory(folder, ignored)) remove_export(folder, keeps);
}

void export_hf_directory(const std::string& path, const NamedTensors& tensors, const ExportOptions& options) {
  export_hf_directory(
      path, specs_of(path, tensors), [&](size_t index) { return tensors[index].second; }, options);
}

}  // namespace fpdist::checkpoint
