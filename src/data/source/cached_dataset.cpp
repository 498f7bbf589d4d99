#include "src/data/source/cached_dataset.hpp"

#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/line_reader.hpp"
#include "src/data/source/token_cache.hpp"
#include "src/files/mapped_file.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".tokens", kLockEnding = ".lock";
constexpr uint32_t kRules = 1;  ///< raised when the same rows become other groups

/// Keeps what is said, and passes it on.
class Listener final : public LogSink {
 public:
  explicit Listener(LogSink& sink) : sink_(sink) {}
  void write(LogLevel level, std::string_view line) override {
    said.push_back({level, std::string(line)});
    sink_.write(level, line);
  }
  std::vector<SaidLine> said;

 private:
  LogSink& sink_;
};

void add(std::string_view text, Checksum& sum) { sum.add(std::span<const char>(text.data(), text.size())); }

std::optional<Dataset> from_cache(const std::string& path, const Digest& key, LogSink& log) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  const TokenCache cache(path, key);
  for (const SaidLine& said : cache.said()) log.write(said.level, said.line);
  return cache.dataset();
}

}  // namespace

Digest cache_key(const DataOptions& options, Method method, const Tokenizer& tokenizer) {
  Checksum sum;
  sum.add(kRules).add(static_cast<int32_t>(method)).add(options.max_length);
  sum.add(static_cast<int32_t>(options.truncation_mode)).add(options.completion_only_loss);
  sum.add(options.assistant_only_loss).add(static_cast<int32_t>(options.group_by));
  sum.add(static_cast<int32_t>(options.on_error)).add(options.max_skipped);
  add(tokenizer.identity(), sum);
  for (const auto& [ours, theirs] : options.columns) add(ours, sum), add(theirs, sum);
  for (const std::string& path : data_files(options.path)) {
    const files::MappedFile file(path);
    add(path, sum), add(file.bytes(), sum);  // messages of a cached data set name its files
  }
  return sum.value();
}

std::string cache_path(const std::string& folder, const Digest& key) {
  return text(folder, "/", to_string(key), kEnding);
}

bool begins_with_text(const DataOptions& options, Method method) {
  try {
    const std::vector<std::string> files = data_files(options.path);
    if (files.empty()) return false;
    LineReader lines(files.front());
    std::string line;
    if (!lines.next(line)) return false;
    const ColumnNames names(options.columns);
    const GroupMaker maker{.method = method, .names = names, .options = options};
    return maker.is_text(maker.recognise(RowParser(names).parse(line, lines.place(), formats_of(method).all())));
  } catch (const Error&) {  // reading it says what is wrong
    return false;
  }
}

Dataset read_cached(const DataOptions& options, Method method, Tokenizer& tokenizer, const CacheUse& use,
                    LogSink& log) {
  if (use.folder.empty()) return read_dataset(options, method, tokenizer, log);
  const Digest key = cache_key(options, method, tokenizer);
  const std::string path = cache_path(use.folder, key);
  if (std::optional<Dataset> found = from_cache(path, key, log)) return *std::move(found);
  if (!use.may_write) return read_dataset(options, method, tokenizer, log);
  std::error_code error;
  fs::create_directories(use.folder, error);
  check<DiskError>(!error, "cannot make ", use.folder, ": ", error.message(),
                   ": check data.cache_dir and its permissions, or set data.cache_dir: none");
  const files::FileLock lock(path + std::string(kLockEnding), use.wait_seconds);
  if (std::optional<Dataset> found = from_cache(path, key, log)) return *std::move(found);
  Listener listener(log);
  Dataset dataset = read_dataset(options, method, tokenizer, listener);
  write_token_cache(path, key, dataset, listener.said);
  return dataset;
}

int64_t prune_caches(const std::string& folder, const Digest& kept) {
  const std::string keep = to_string(kept);
  std::vector<fs::path> old;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = name.ends_with(kEnding) || name.ends_with(text(kEnding, kLockEnding));
    if (is_ours && !name.starts_with(keep)) old.push_back(entry.path());
  }
  int64_t caches = 0;
  for (const fs::path& path : old) {
    fs::remove(path, error);
    check<DiskError>(!error, "cannot remove ", path.string(), ": ", error.message());
    caches += path.extension() == kEnding;
  }
  return caches;
}

}  // namespace fpdist::data
