#include "src/main/prepare/data_report.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/main/prepare/show_rows.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::main_program {
namespace {

using Tokens = std::span<const int32_t>;
constexpr size_t kLargest = 5;     // shared prefixes that are shown
constexpr int64_t kBarWidth = 40;  // letters of a histogram's longest bar
constexpr int kBars = 8;

double sharing_of_steps(const data::Dataset& dataset, const config::Config& config, data::Batching batching) {
  data::DataOptions options = config.data;
  options.batching = batching;
  return data::step_sharing(dataset,
                            data::make_loader(dataset, options, config.train.groups_per_step, config.train.seed));
}

/// [nodes] samples that pass through.
std::vector<int64_t> passing(const prefix::Forest& forest) {
  std::vector<int64_t> count(forest.node.size(), 0);
  for (const int32_t node : forest.last_node)
    if (node >= 0) ++count[index(node)];
  for (size_t i = forest.node.size(); i-- > 0;)
    if (forest.node[i].parent >= 0) count[index(forest.node[i].parent)] += count[i];
  return count;
}

void add_largest(const std::vector<Tokens>& sequences, const prefix::Forest& forest, data::Tokenizer& tokenizer,
                 DataReport& report) {
  const std::vector<int64_t> count = passing(forest);
  std::vector<size_t> order(forest.node.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto saved = [&](size_t node) { return forest.node[node].length * (count[node] - 1); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return saved(a) > saved(b); });
  for (const size_t at : order) {
    if (report.largest.size() == kLargest || saved(at) == 0) break;
    const prefix::ForestNode& node = forest.node[at];
    const Tokens prefix = sequences[index(node.sample)].first(index(node.depth + node.length));
    report.largest.push_back({std::ssize(prefix), count[at], shown_run(prefix, tokenizer), saved(at)});
  }
}

std::string drawn(const Lengths& lengths) {
  const std::vector<Bar> bars = histogram(lengths, kBars);
  int64_t highest = 1;
  for (const Bar& bar : bars) highest = std::max(highest, bar.count);
  std::string lines;
  for (const Bar& bar : bars)
    lines += number("  %7.0f ", static_cast<double>(bar.from)) +
             std::string(index((bar.count * kBarWidth + highest - 1) / highest), '#') +
             text(bar.count > 0 ? " " : "", bar.count, "\n");
  return lines;
}

}  // namespace

int64_t Lengths::quantile(double share) const {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

double Lengths::mean() const {
  return static_cast<double>(std::accumulate(sorted.begin(), sorted.end(), int64_t{0})) /
         static_cast<double>(sorted.size());
}

std::vector<Bar> histogram(const Lengths& lengths, int bars) {
  const int64_t least = lengths.sorted.front(), most = lengths.sorted.back();
  const int64_t width = std::max<int64_t>(1, (most - least + bars) / bars);
  std::vector<Bar> all;
  for (int64_t from = least; from <= most; from += width) all.push_back({from, from + width, 0});
  for (const int64_t length : lengths.sorted) ++all[index((length - least) / width)].count;
  return all;
}

DataReport make_report(const data::Dataset& dataset, const config::Config& config, data::Tokenizer& tokenizer) {
  DataReport report{.groups = std::ssize(dataset.group),
                    .dropped = dataset.dropped_rows,
                    .cut = dataset.truncated_samples,
                    .differing_prompts = dataset.differing_prompts};
  Lengths prompt{"prompt", {}}, completion{"completion", {}}, sample{"sample", {}}, group_tree{"group", {}};
  std::vector<Tokens> all;
  int64_t trees = 0;
  for (const data::Group& group : dataset.group) {
    std::vector<Tokens> sequences;
    for (const data::Sample& one : group.sample) {
      sequences.emplace_back(one.token);
      prompt.sorted.push_back(one.prompt_length), completion.sorted.push_back(one.length() - one.prompt_length);
      sample.sorted.push_back(one.length()), report.tokens += one.length(), ++report.samples;
      report.targets +=
          std::count_if(one.target.begin(), one.target.end(), [](int32_t id) { return id != data::kIgnore; });
    }
    group_tree.sorted.push_back(prefix::make_forest(sequences).tokens());
    trees += group_tree.sorted.back();
    all.insert(all.end(), sequences.begin(), sequences.end());
  }
  for (Lengths* lengths : {&prompt, &completion, &sample, &group_tree}) {
    std::sort(lengths->sorted.begin(), lengths->sorted.end());
    report.lengths.push_back(std::move(*lengths));
  }
  const prefix::Forest forest = prefix::make_forest(all);
  const auto ratio = [&](int64_t computed) {
    return static_cast<double>(report.tokens) / static_cast<double>(std::max<int64_t>(1, computed));
  };
  report.sharing_groups = ratio(trees), report.sharing_all = ratio(forest.tokens());
  report.sharing_shuffled = sharing_of_steps(dataset, config, data::Batching::kShuffle);
  report.sharing_by_prefix = sharing_of_steps(dataset, config, data::Batching::kPrefix);
  add_largest(all, forest, tokenizer, report);
  return report;
}

std::string report_text(const DataReport& report) {
  std::string lines = text("data       ", report.groups, " groups, ", report.samples, " samples, ", report.tokens,
                           " tokens, ", report.targets, " of them learned\n");
  if (report.dropped + report.cut + report.differing_prompts > 0)
    lines += text("           ", report.dropped, " rows dropped, ", report.cut, " samples cut, ",
                  report.differing_prompts, " prompts with other tokens alone\n");
  lines += text("sharing    ", number("%.2fx in groups, ", report.sharing_groups),
                number("%.2fx in a shuffled step, ", report.sharing_shuffled),
                number("%.2fx in a step batched by prefix (data.batching: prefix), ", report.sharing_by_prefix),
                number("%.2fx at most, over all", report.sharing_all), "\n");
  for (const Lengths& lengths : report.lengths)
    lines += text(lengths.of, " tokens: mean ", number("%.1f", lengths.mean()), ", half up to ", lengths.quantile(0.5),
                  ", 95 % up to ", lengths.quantile(0.95), ", longest ", lengths.sorted.back(), "\n", drawn(lengths));
  if (!report.largest.empty()) lines += "largest shared prefixes (tokens, samples)\n";
  for (const SharedPrefix& one : report.largest)
    lines += text("  ", one.tokens, ", ", one.samples, "  ", one.text, "\n");
  return lines;
}

}  // namespace fpdist::main_program
