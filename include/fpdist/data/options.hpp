#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::data {

/// Which end of a text row that is too long stays.
enum class Truncation { kKeepStart, kKeepEnd };
inline constexpr std::array<std::pair<Truncation, std::string_view>, 2> kTruncations{
    {{Truncation::kKeepStart, "keep_start"}, {Truncation::kKeepEnd, "keep_end"}}};

/// Which rows come into one group, or where groups are pairs into one step.
enum class GroupBy { kRow, kPrompt, kUid };
inline constexpr std::array<std::pair<GroupBy, std::string_view>, 3> kGroupBys{
    {{GroupBy::kRow, "row"}, {GroupBy::kPrompt, "prompt"}, {GroupBy::kUid, "uid"}}};
/// Which groups come into one step.
enum class Batching { kShuffle, kPrefix };
inline constexpr std::array<std::pair<Batching, std::string_view>, 2> kBatchings{
    {{Batching::kShuffle, "shuffle"}, {Batching::kPrefix, "prefix"}}};

/// What becomes of a row that cannot be read.
enum class OnError { kStop, kSkip };
inline constexpr std::array<std::pair<OnError, std::string_view>, 2> kOnErrors{
    {{OnError::kStop, "stop"}, {OnError::kSkip, "skip"}}};

struct DataOptions {
  /// JSONL files, .gz and .zst among them, folders of such files and patterns such as data/*.jsonl, read in this order.
  std::vector<std::string> path = {};
  /// What is evaluated on, as `path`; empty: nothing, or eval_fraction of path's groups.
  std::vector<std::string> eval_path = {};
  /// Part of path's groups, drawn by train.seed, that is evaluated on and never trained on; 0: none.
  double eval_fraction = 0.0;
  /// One of path's entries, spelt as there -> how often an epoch goes through it, 1 where it is not named: 0.5 is half
  /// of its groups, and the other half the next epoch; 2 is each of them twice. A group that rows of several entries
  /// make (group_by) counts with its first row.
  std::map<std::string, std::string> mixture = {};
  /// What text rows are read with: "", the model's own tokenizer; a directory with another; or "bytes", one token a
  /// byte. A preset without a directory reads bytes.
  std::string tokenizer;
  /// Text workers that encode and render, Python processes: at most so many; 0: as many as the host has cores for us.
  int text_workers = 0;
  /// Longest sample in tokens, prompt and completion. Longer text rows are cut (reward rows dropped); one that nothing
  /// would be learned from, such as a prompt alone that reaches it, is dropped; both are counted. Pre-tokenised rows
  /// are used exactly as they are: a longer one is an error.
  int64_t max_length = 1024;
  Truncation truncation_mode = Truncation::kKeepStart;
  /// sft rows with prompt and completion: only the completion is learned; false: all of it.
  bool completion_only_loss = true;
  /// sft conversations: only what an assistant wrote is learned, by the chat template's generation markers or, where it
  /// has none, by rendering turn by turn.
  bool assistant_only_loss = false;
  /// sft rows of every kind: all tokens are learned, prompts too, whatever the other two and labels say. Weights of
  /// rows and turns still count.
  bool train_on_all = false;
  /// prm rows of text: what stands behind every step, at whose last token the step's label is.
  std::string step_separator = "\n";
  /// prm: only the last step's label of each row is learned.
  bool train_on_last_step_only = false;
  /// Shuffle every epoch by (seed, epoch); false keeps file order.
  bool shuffle = true;
  /// row: each row is a group. prompt: rows with the same prompt tokens are one, uid: rows with the same `uid`; pairs
  /// stay groups and follow each other in an epoch. Flat grpo rows, one completion each, need one of the two.
  GroupBy group_by = GroupBy::kRow;
  /// shuffle: any groups make a step. prefix: groups that begin alike come into one step, clusters instead of groups
  /// are shuffled; what the samples of a step have in common is no longer chance, and gradients are noisier for it.
  Batching batching = Batching::kShuffle;
  /// With prefix: so many tokens must be alike.
  int64_t min_shared_tokens = 64;
  /// With prefix: the largest part of a step that one cluster fills; larger ones are cut and spread over the epoch.
  double max_cluster_share = 0.25;
  /// stop: the first row that cannot be read ends the run. skip: it is left out, counted and listed in
  /// logs/skipped_rows.txt; more than max_skipped of them end the run all the same.
  OnError on_error = OnError::kStop;
  int64_t max_skipped = 100;
  /// Where what was read is kept for the next run and for the other processes of this one: a folder; auto:
  /// OUTPUT.tokens beside train.output_dir for text that the model's tokenizer encodes, nowhere else; none.
  std::string cache_dir = "auto";
  /// Renames columns: our name -> the file's name, e.g. {chosen: preferred}; fields inside `completions` as well. A
  /// text may be made of several: {prompt: instruction + input} puts a line end between those that are not empty.
  std::map<std::string, std::string> columns = {};

  /// No key: adapter.prefix_values, where adapter.prefix_by is source. Their rows say in the column `source` which of
  /// these they are of (Group::source); of rows that name another, or none, `other_source` is taken. Empty: nobody
  /// asks.
  std::vector<std::string> sources = {};
  std::string other_source = {};
  /// No key: adapter.context_dim. Rows have so many numbers in the column `context` (Group::prefix_context); 0: nobody
  /// asks.
  int64_t context_dim = 0;

  /// How often an epoch goes through `entry` of path, see mixture.
  double times(const std::string& entry) const;

  static std::span<const Key> keys();
};

}  // namespace fpdist::data
