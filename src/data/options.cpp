#include "fpdist/data/options.hpp"

#include <charconv>
#include <optional>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/core/key.hpp"

namespace fpdist::data {
namespace {

void check_paths(const Valid&, const Field& field, Complaints& complaints) {
  const Texts& paths = *std::get<Texts*>(field);
  for (const std::string& path : paths)
    if (path.empty()) complaints.emplace_back(" holds an empty name; give the path of a JSONL file");
}

constexpr double kMostTimes = 1000;

std::optional<double> times_in(const std::string& text) {
  double times = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, times);
  if (error != std::errc() || stop != end || !(times > 0 && times <= kMostTimes)) return std::nullopt;
  return times;
}

void check_mixture(const Valid&, const Field& field, Complaints& complaints) {
  for (const auto& [entry, times] : *std::get<TextMap*>(field))
    if (!times_in(times))
      complaints.push_back(text(" has ", entry, ": ", times, "; how often an epoch goes through it is above 0 and ",
                                kMostTimes, " at most (leave a file out in data.path)"));
}

constexpr Valid kLength{.values = ">= 2", .must = "2 or more", .accepts = [](double x) { return x >= 2; }};

constexpr Valid kShare{
    .values = "0 to 1", .must = "above 0 and 1 at most", .accepts = [](double x) { return x > 0 && x <= 1; }};
constexpr Valid kPart{
    .values = "0 <= x < 1", .must = "at least 0 and below 1", .accepts = [](double x) { return x >= 0 && x < 1; }};

}  // namespace

std::span<const Key> DataOptions::keys() {
  using Options = DataOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(path, "JSONL files (.gz, .zst), folders of them or patterns, read in this order",
                 Valid{.values = "one path or several", .check = check_paths}),
      FPDIST_KEY(eval_path, "what is evaluated on, as path"),
      FPDIST_KEY(eval_fraction, "part of path's groups that is evaluated on instead of trained on", kPart),
      FPDIST_KEY(mixture, "one of path's entries -> times that an epoch goes through it",
                 Valid{.values = "above 0", .check = check_mixture}),
      FPDIST_KEY(tokenizer, "of text rows: empty for the model's own, a directory with another, or bytes"),
      FPDIST_KEY(text_workers, "processes that encode text, at most; 0: as many as there are cores", kFromZero),
      FPDIST_KEY(max_length, "longest sample in tokens; longer text rows are cut", kLength),
      FPDIST_NAMED_KEY(truncation_mode, "the end of a text row that stays when it is cut", kTruncations),
      FPDIST_KEY(completion_only_loss, "sft rows with a prompt: learn the completion alone"),
      FPDIST_KEY(assistant_only_loss, "sft conversations: learn what an assistant wrote alone"),
      FPDIST_KEY(train_on_all, "sft rows: learn all tokens, prompts too"),
      FPDIST_KEY(step_separator, "prm rows of text: what stands behind every step, and its label at the end of"),
      FPDIST_KEY(train_on_last_step_only, "prm: learn the last step's label of each row alone"),
      FPDIST_KEY(shuffle, "shuffle every epoch by (seed, epoch); false keeps file order"),
      FPDIST_NAMED_KEY(group_by, "rows that are one group: each, or those of one prompt or uid", kGroupBys),
      FPDIST_NAMED_KEY(batching, "groups of a step: any, or those that begin alike", kBatchings),
      FPDIST_KEY(min_shared_tokens, "batching prefix: tokens that groups of a cluster share at least", kFromOne),
      FPDIST_KEY(max_cluster_share, "batching prefix: the largest part of a step for one cluster", kShare),
      FPDIST_NAMED_KEY(on_error, "rows that cannot be read: end the run, or leave them out and list them", kOnErrors),
      FPDIST_KEY(max_skipped, "on_error skip: more rows than these end the run", kFromZero),
      FPDIST_KEY(cache_dir, "where tokens are kept: a folder, auto (text: beside the output) or none",
                 Valid{.must = "give a folder, auto or none", .check = check_filled}),
      FPDIST_KEY(columns, "our column's name -> the file's, e.g. chosen=preferred")};
  return kKeys;
}

double DataOptions::times(const std::string& entry) const {
  const auto given = mixture.find(entry);
  return given == mixture.end() ? 1.0 : times_in(given->second).value_or(1.0);
}

}  // namespace fpdist::data
