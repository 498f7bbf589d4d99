#include "fpdist/data/reader.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/rows/format.hpp"
#include "src/data/rows/grouping.hpp"
#include "src/data/rows/line_reader.hpp"
#include "src/data/rows/near_columns.hpp"
#include "src/data/rows/read_groups.hpp"
#include "src/data/rows/remarks.hpp"
#include "src/data/rows/row.hpp"
#include "src/data/rows/waiting_row.hpp"

namespace fpdist::data {
namespace {

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t") == std::string_view::npos; }

/// Optional per-token values must come with every sample of the data set or with none: packs mix rows freely.
class AlikeCheck {
 public:
  void see(const Group& group, const LinePlace& place) {
    for (const Sample& sample : group.sample) {
      if (sample.token.empty()) continue;
      one("old_logps", old_, !sample.old_logp.empty(), place);
      one("ref_logps", ref_, !sample.ref_logp.empty(), place);
    }
  }

 private:
  static void one(std::string_view what, std::optional<bool>& first, bool has, const LinePlace& place) {
    if (!first) first = has;
    if (*first != has)
      fail_at(place, 0,
              text("this row ", has ? "has " : "lacks ", what, ", the rows before ", has ? "lack" : "have",
                   " them: give them for every completion of the data set or for none"));
  }
  std::optional<bool> old_, ref_;
};

/// Columns of the data set that nobody reads.
class UnreadColumns {
 public:
  void see(const Row& row) { all_.insert(row.unread.begin(), row.unread.end()); }
  /// A column that another method reads is likely meant to do something.
  void tell(const ColumnNames& names, Method method, LogSink& log) const {
    std::string ours, others;
    for (const std::string& name : all_) {
      const size_t dot = name.find('.');
      const auto column = names.find(dot == std::string::npos ? name : name.substr(dot + 1));
      // To most these are names like others.
      const bool is_ours = column && column->column != Column::kLabel && column->column != Column::kSource &&
                           column->column != Column::kContext;
      std::string& list = is_ours ? ours : others;
      list += text(list.empty() ? "" : ", ", name);
    }
    if (!ours.empty())
      log.warning(text("columns of the data that method ", name_of(method), " does not read: ", ours,
                       ": what they say has no effect"));
    if (!others.empty()) log.info(text("columns of the data that are not read: ", others));
  }

 private:
  std::set<std::string> all_;
};

/// 0 for what is not there: opening it says so.
int64_t bytes_of(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

/// Rows that are encoded together.
constexpr size_t kBatchRows = 4096, kBatchBytes = size_t{16} << 20;

class DatasetReader {
 public:
  DatasetReader(const DataOptions& options, Method method, Tokenizer& tokenizer, const ReadWatch& watch,
                const GroupSink& sink)
      : options_(options),
        watch_(watch),
        sink_(sink),
        names_(options.columns),
        parser_(names_),
        wanted_(formats_of(method).all()),
        tokenizer_(tokenizer),
        maker_{.method = method, .names = names_, .options = options},
        near_(names_),
        units_(options.group_by) {
    if (!options.sources.empty()) wanted_.push_back(Column::kSource);
    if (options.context_dim > 0) wanted_.push_back(Column::kContext);
  }

  /// A file that will be read.
  void expect(const std::string& path) { of_bytes_ += bytes_of(path); }
  /// `entry`: of options.path, that names it.
  void read_file(const std::string& path, int32_t entry) {
    LineReader lines(path, static_cast<int32_t>(dataset_.file.size()), file_columns(names_, wanted_));
    dataset_.file.push_back(path), dataset_.entry.push_back(entry);
    std::string line;
    std::optional<LinePlace> blank;
    kind_of_file_ = nullptr;
    const int64_t before = std::exchange(state_.file_bytes, state_.file_bytes + bytes_of(path));
    while (lines.next(line)) {
      if (lines.is_plain()) done_bytes_ = before + lines.bytes();
      if (is_blank(line)) {
        if (!blank) blank = lines.place();
        continue;
      }
      if (blank) fail_at(*blank, 0, "a blank line between rows: remove it (at the end of the file they are fine)");
      read_line(line, lines.place());
    }
    check<DataError>(kind_of_file_ != nullptr || !dataset_.skipped.empty(), path,
                     ":1:1: the file has no rows: write one JSON object a line");
    done_bytes_ = state_.file_bytes;
  }

  /// Behind the last file.
  void finish() {
    encode_waiting();
    tell_state();
  }
  /// What is worth a word and no error.
  void tell(LogSink& log) const {
    unread_.tell(names_, maker_.method, log);
    odd_.tell(log);
    rewards_.tell(log);
  }
  ReadRows take() && {
    ReadRows read{.facts = std::move(dataset_), .first = std::move(units_).take()};
    if (!joins_rows(options_, maker_.method)) read.facts.unit = std::exchange(read.first, {});
    return read;
  }
  const std::string& first_differing() const { return first_differing_; }

 private:
  void read_line(std::string& line, const LinePlace& place) {
    bytes_ += line.size(), state_.text_bytes += static_cast<int64_t>(line.size());
    ++state_.rows;
    try {
      add(parser_.parse(line, place, wanted_));
    } catch (const DataError& error) {
      encode_waiting();  // an error of a row before this one comes first
      refuse(error.what());
    }
    if (waiting_.size() < kBatchRows && bytes_ < kBatchBytes) return;
    encode_waiting();
    tell_state();
  }

  void tell_state() const {
    if (!watch_) return;
    ReadState state = state_;
    state.file_bytes = done_bytes_, state.of_bytes = of_bytes_;
    watch_(state);
  }

  void add(Row&& row) {
    unread_.see(row);
    const RowFormat& format = maker_.recognise(row);
    near_.check(row, format);
    if (kind_of_file_ != nullptr && kind_of_file_ != &format)
      fail_at(row.place, 0,
              text("this row has ", names_.joined(format.required), ", the file's rows before it have ",
                   names_.joined(kind_of_file_->required), ": give each kind of row a file of its own"));
    kind_of_file_ = &format;
    const std::string refusal = maker_.is_text(format) ? tokenizer_.refusal() : "";
    if (!refusal.empty()) fail_at(row.place, row.offset(format.required.front()), refusal);
    waiting_.emplace_back(std::move(row), format, maker_);
  }

  void encode_waiting() {
    std::vector<WaitingRow> rows = std::exchange(waiting_, {});
    bytes_ = 0;
    std::vector<MadeGroup> made = make_groups(rows, maker_, tokenizer_);
    for (size_t i = 0; i < rows.size(); ++i) keep(std::move(made[i]), *rows[i].row);
  }

  /// A row cannot be read.
  void refuse(const std::string& why) {
    if (options_.on_error == OnError::kStop) throw DataError(why);
    dataset_.skipped.push_back(why);
    check<DataError>(std::ssize(dataset_.skipped) <= options_.max_skipped, why,
                     " (and with it more than data.max_skipped ", options_.max_skipped, " rows cannot be read)");
  }

  /// The number of the prefix that the row stands behind.
  int32_t source_of(const Row& row) const {
    const std::string none, &name = row.has(Column::kSource) ? row.get<std::string>(Column::kSource) : none;
    const std::vector<std::string>& all = options_.sources;
    const auto number_of = [&](const std::string& one) {
      return static_cast<int32_t>(std::find(all.begin(), all.end(), one) - all.begin());
    };
    const int32_t own = number_of(name);
    if (own < std::ssize(all)) return own;
    if (!options_.other_source.empty()) return number_of(options_.other_source);
    std::string known;
    for (const std::string& one : all) known += text(known.empty() ? "" : ", ", one);
    const std::string& column = names_.in_file(Column::kSource);
    fail_at(row.place, row.has(Column::kSource) ? row.offset(Column::kSource) : 0,
            text(name.empty() ? text("the row has no '", column, "'") : text(column, " is '", name, "'"),
                 ", and adapter.prefix_values has prefixes of ", known,
                 ": add it there, or name one of them for all others, adapter.prefix_default"));
  }

  /// What the row's prefix is made of.
  std::vector<float> context_of(const Row& row) const {
    const std::string& column = names_.in_file(Column::kContext);
    if (!row.has(Column::kContext))
      fail_at(row.place, 0,
              text("the row has no '", column, "': adapter.prefix_by asks every row for a list of ",
                   options_.context_dim, " numbers (adapter.context_dim)"));
    const auto& given = row.get<std::vector<double>>(Column::kContext);
    const size_t at = row.offset(Column::kContext);
    if (std::ssize(given) != options_.context_dim)
      fail_at(row.place, at,
              text(column, " holds ", given.size(), " numbers, adapter.context_dim is ", options_.context_dim,
                   ": give every row as many"));
    std::vector<float> context(given.begin(), given.end());
    for (size_t i = 0; i < given.size(); ++i)
      if (!std::isfinite(context[i]))
        fail_at(row.place, at, text(column, " holds ", given[i], ", which is too large for float32"));
    return context;
  }

  void keep(MadeGroup made, const Row& row) {
    if (!made.error.empty()) return refuse(made.error);
    const LinePlace& place = row.place;
    if (made.prompt_differs && ++dataset_.differing_prompts == 1) first_differing_ = row_name(place.file, place.line);
    if (!made.group) {
      ++dataset_.dropped_rows;
      return;
    }
    if (!options_.sources.empty() || options_.context_dim > 0) {
      try {
        if (!options_.sources.empty()) made.group->source = source_of(row);
        if (options_.context_dim > 0) made.group->prefix_context = context_of(row);
      } catch (const DataError& error) {
        return refuse(error.what());
      }
    }
    alike_.see(*made.group, place);
    dataset_.truncated_samples += made.truncated_samples;
    for (const Sample& sample : made.group->sample)
      for (const auto* ids : {&sample.token, &sample.target})
        for (const int32_t id : *ids) dataset_.max_token_id = std::max(dataset_.max_token_id, id);
    if (options_.group_by == GroupBy::kPrompt && prompt_tokens(made.group->sample.front()) == 0)
      fail_at(place, 0,
              "rows are grouped by their prompts, and this one has none: give it one, or group by uid or row "
              "(data.group_by)");
    units_.add(*made.group, made.uid);
    odd_.see(made, formats_of(maker_.method).group, place);
    if (!joins_rows(options_, maker_.method) && !formats_of(maker_.method).has_verdicts) rewards_.see(*made.group);
    made.group->id = static_cast<int64_t>(dataset_.place.size());
    sink_(std::move(*made.group));
    dataset_.place.push_back({.file = place.file_number, .line = place.line});
  }

  const DataOptions& options_;
  const ReadWatch& watch_;
  const GroupSink& sink_;
  ReadState state_;         // file_bytes: of all files up to this one
  int64_t done_bytes_ = 0;  // of the files
  int64_t of_bytes_ = 0;
  ColumnNames names_;
  RowParser parser_;
  std::vector<Column> wanted_;
  Tokenizer& tokenizer_;
  GroupMaker maker_;
  NearColumns near_;
  AlikeCheck alike_;
  UnreadColumns unread_;
  OddRows odd_;
  EvenRewards rewards_;  // of rows that are groups
  std::vector<WaitingRow> waiting_;
  size_t bytes_ = 0;                         // of the lines that wait
  const RowFormat* kind_of_file_ = nullptr;  // of the rows so far
  RowUnits units_;
  Dataset dataset_;
  std::string first_differing_;
};

}  // namespace

Group Dataset::get(int64_t id) const { return source ? source->group(id) : group.at(static_cast<size_t>(id)); }

std::string Dataset::where(size_t group) const {
  const RowPlace& row = place.at(group);
  return row_name(file.at(static_cast<size_t>(row.file)), row.line);
}

Dataset read_dataset(const DataOptions& options, Method method, Tokenizer& tokenizer, LogSink& log,
                     const ReadWatch& watch) {
  std::vector<Group> groups;
  const auto put = [&](Group&& group) { groups.push_back(std::move(group)); };
  auto [dataset, first] = read_groups(options, method, tokenizer, log, watch, put);
  if (!first.empty()) {
    std::vector<Group> rows = std::exchange(groups, {});
    join_rows(
        first, [&](int64_t row) { return std::move(rows[index(row)]); }, put, dataset, log);
  }
  dataset.group = std::move(groups);
  return dataset;
}

bool joins_rows(const DataOptions& options, Method method) {
  const MethodFormats& formats = formats_of(method);
  return options.group_by != GroupBy::kRow && formats.group != RowGroup::kPair && !formats.has_verdicts;
}

ReadRows read_groups(const DataOptions& options, Method method, Tokenizer& tokenizer, LogSink& log,
                     const ReadWatch& watch, const GroupSink& sink) {
  check<ConfigError>(!options.path.empty(), "data.path is empty: name at least one JSONL file");
  check<ConfigError>(options.max_length >= 1, "data.max_length is ", options.max_length, ": set it to 1 or more");
  DatasetReader reader(options, method, tokenizer, watch, sink);
  std::vector<std::pair<std::string, int32_t>> files;  // and the entry that names each
  for (size_t entry = 0; entry < options.path.size(); ++entry)
    for (std::string& path : data_files({options.path[entry]}))
      files.emplace_back(std::move(path), static_cast<int32_t>(entry));
  for (const auto& [path, entry] : files) reader.expect(path);
  for (const auto& [path, entry] : files) reader.read_file(path, entry);
  reader.finish();
  reader.tell(log);
  ReadRows read = std::move(reader).take();
  const Dataset& dataset = read.facts;
  check<DataError>(!dataset.place.empty(), options.path.front(), ":1:1: every row was dropped, nothing of the ",
                   dataset.dropped_rows, " that could be learned is within data.max_length ", options.max_length,
                   ": raise it");
  if (!dataset.skipped.empty())
    log.warning(text("left out ", dataset.skipped.size(),
                     " rows that cannot be read (data.on_error: skip), the first: ", dataset.skipped.front()));
  if (dataset.dropped_rows > 0)
    log.warning(text("dropped ", dataset.dropped_rows,
                     " rows: nothing that could be learned is within data.max_length ", options.max_length,
                     ", or its weight is 0"));
  if (dataset.truncated_samples > 0)
    log.warning(text("cut ", dataset.truncated_samples, " samples at data.max_length ", options.max_length));
  if (dataset.differing_prompts > 0)
    log.warning(
        text("the prompts of ", dataset.differing_prompts, " rows, ", reader.first_differing(),
             " the first, have other tokens alone than in front of an answer: their last tokens go to the answer "
             "(end prompts where a token ends, or use a chat template that renders them alike)"));
  return read;
}

}  // namespace fpdist::data
