#include "src/data/source/cached_dataset.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <regex>
#include <string_view>
#include <system_error>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/line_reader.hpp"
#include "src/data/rows/read_groups.hpp"
#include "src/data/source/token_cache.hpp"
#include "src/files/mapped_file.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".tokens", kLockEnding = ".lock", kRowsEnding = ".rows";
constexpr uint32_t kRules = 4;  ///< raised when the same rows become other groups

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

using Cache = std::shared_ptr<const TokenCache>;

/// The cache of `key`, or nothing.
Cache find(const std::string& path, const Digest& key) {
  std::error_code error;
  return fs::exists(path, error) ? std::make_shared<const TokenCache>(path, key) : nullptr;
}

Dataset dataset_of(const Cache& cache, const CacheUse& use) {
  if (!use.stays_mapped) return cache->dataset();
  Dataset dataset = cache->facts();
  dataset.source = cache;
  return dataset;
}

/// Whether a cache or its lock is called so: what else may lie in the folder is not ours to remove.
bool is_cache_name(const std::string& name) {
  static const std::regex pattern(R"([0-9a-f]{32}\.tokens(\.lock|\.rows)?)");
  return std::regex_match(name, pattern);
}

/// What was said when it was made is said again.
Dataset say_and_take(const Cache& cache, const CacheUse& use, LogSink& log) {
  for (const SaidLine& said : cache->said()) log.write(said.level, said.line);
  return dataset_of(cache, use);
}

/// What goes into a cache.
struct CacheContents {
  const DataOptions& options;
  Method method;
  Tokenizer& tokenizer;
  const ReadWatch& watch;
};

/// Without all groups in memory, whoever makes it. Rows that are to be joined go through a cache of their own, whose
/// file is gone as soon as it is mapped.
void make_cache(const std::string& path, const Digest& key, const CacheContents& of, LogSink& log) {
  Listener listener(log);
  const auto read_to = [&](CacheWriter& writer) {
    return read_groups(of.options, of.method, of.tokenizer, listener, of.watch,
                       [&](Group&& group) { writer.add(group); });
  };
  if (!joins_rows(of.options, of.method)) {
    CacheWriter writer(path, key);
    const ReadRows read = read_to(writer);
    return writer.finish(read.facts, listener.said);
  }
  const std::string rows_path = path + std::string(kRowsEnding);
  CacheWriter row_writer(rows_path, key);
  ReadRows read = read_to(row_writer);
  row_writer.finish(read.facts, {});
  const TokenCache rows(rows_path, key);
  fs::remove(rows_path);
  CacheWriter writer(path, key);
  join_rows(
      read.first, [&](int64_t row) { return rows.group(row); }, [&](Group&& group) { writer.add(group); }, read.facts,
      listener);
  writer.finish(read.facts, listener.said);
}

}  // namespace

Digest cache_key(const DataOptions& options, Method method, const Tokenizer& tokenizer) {
  Checksum sum;
  sum.add(kRules).add(static_cast<int32_t>(method)).add(options.max_length);
  sum.add(static_cast<int32_t>(options.truncation_mode)).add(options.completion_only_loss);
  sum.add(options.train_on_last_step_only);
  add(options.step_separator, sum);
  sum.add(options.assistant_only_loss).add(options.train_on_all).add(static_cast<int32_t>(options.group_by));
  sum.add(static_cast<int32_t>(options.on_error)).add(options.max_skipped);
  add(tokenizer.identity(), sum), add(options.other_source, sum), sum.add(options.context_dim);
  for (const std::string& one : options.sources) add(one, sum);
  for (const auto& [ours, theirs] : options.columns) add(ours, sum), add(theirs, sum);
  for (const std::string& entry : options.path) {
    const std::vector<std::string> files = data_files({entry});
    sum.add(static_cast<uint64_t>(files.size()));  // which entry a file belongs to
    for (const std::string& path : files) {
      const files::MappedFile file(path);
      add(path, sum), add(file.bytes(), sum);  // messages of a cached data set name its files
    }
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
    const ColumnNames names(options.columns);
    const std::vector<Column> wanted = formats_of(method).all();
    LineReader lines(files.front(), 0, file_columns(names, wanted));
    std::string line;
    if (!lines.next(line)) return false;
    const GroupMaker maker{.method = method, .names = names, .options = options};
    return maker.is_text(maker.recognise(RowParser(names).parse(line, lines.place(), wanted)));
  } catch (const Error&) {  // reading it says what is wrong
    return false;
  }
}

Dataset read_cached(const DataOptions& options, Method method, Tokenizer& tokenizer, const CacheUse& use, LogSink& log,
                    const ReadWatch& watch) {
  if (use.folder.empty()) return read_dataset(options, method, tokenizer, log, watch);
  const Digest key = cache_key(options, method, tokenizer);
  const std::string path = cache_path(use.folder, key);
  if (const Cache cache = find(path, key)) return say_and_take(cache, use, log);
  if (!use.may_write) return read_dataset(options, method, tokenizer, log, watch);
  std::error_code error;
  fs::create_directories(use.folder, error);
  check<DiskError>(!error, "cannot make ", use.folder, ": ", error.message(),
                   ": check data.cache_dir and its permissions, or set data.cache_dir: none");
  const files::FileLock lock(path + std::string(kLockEnding), use.wait_seconds);
  if (const Cache cache = find(path, key)) return say_and_take(cache, use, log);
  make_cache(path, key, {.options = options, .method = method, .tokenizer = tokenizer, .watch = watch}, log);
  return dataset_of(find(path, key), use);
}

int64_t prune_caches(const std::string& folder, std::span<const Digest> kept) {
  const auto is_kept = [&](const std::string& name) {
    return std::any_of(kept.begin(), kept.end(), [&](const Digest& key) { return name.starts_with(to_string(key)); });
  };
  std::vector<fs::path> old;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (is_cache_name(name) && !is_kept(name)) old.push_back(entry.path());
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
