#include "src/main/prepare/show_rows.hpp"

#include <algorithm>
#include <span>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::main_program {
namespace {

constexpr size_t kShownBytes = 72;  // of a run of the tree

using Tokens = std::span<const int32_t>;

/// Runs of ids as texts, decoded in one batch.
class Words {
 public:
  Words(data::Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& runs) {
    if (tokenizer.refusal().empty()) {
      for (const data::RenderedText& one : tokenizer.decode(runs)) text_.push_back(one.text);
      return;
    }
    for (const std::vector<int32_t>& run : runs) {
      std::string& words = text_.emplace_back();
      for (const int32_t id : run) words += text(words.empty() ? "" : " ", id);
    }
  }
  const std::string& operator[](size_t run) const { return text_[run]; }

 private:
  std::vector<std::string> text_;
};

struct Part {
  bool is_target;
  std::vector<int32_t> id;
};

/// The sample cut where context and targets change.
std::vector<Part> parts_of(const data::Sample& sample) {
  std::vector<Part> parts;
  for (size_t t = 0; t < sample.token.size(); ++t) {
    const bool is_target = sample.target[t] != data::kIgnore;
    if (parts.empty() || parts.back().is_target != is_target) parts.push_back({is_target, {}});
    parts.back().id.push_back(sample.token[t]);
  }
  return parts;
}

std::string sample_lines(const data::Sample& sample, data::Tokenizer& tokenizer, bool coloured) {
  const std::vector<Part> parts = parts_of(sample);
  std::vector<std::vector<int32_t>> runs;
  for (const Part& part : parts) runs.push_back(part.id);
  const Words words(tokenizer, runs);
  std::string lines;
  for (size_t i = 0; i < parts.size(); ++i)
    lines += !parts[i].is_target ? words[i]
             : coloured          ? text("\033[32m", words[i], "\033[0m")
                                 : text("«", words[i], "»");
  return lines;
}

/// One line of it, cut in the middle where it is long.
std::string one_line(const std::string& words) {
  std::string line;
  for (const char byte : words) line += byte == '\n' ? std::string("\\n") : std::string(1, byte);
  if (line.size() <= kShownBytes) return line;
  const auto begins = [&](size_t at) { return (static_cast<unsigned char>(line[at]) & 0xC0) != 0x80; };
  size_t head = kShownBytes * 2 / 3, tail = line.size() - kShownBytes / 3;
  while (head > 0 && !begins(head)) --head;
  while (tail < line.size() && !begins(tail)) ++tail;
  return line.substr(0, head) + " ... " + line.substr(tail);
}

std::string tree_lines(const prefix::Forest& forest, const std::vector<Tokens>& sequences, data::Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> runs;
  for (const prefix::ForestNode& node : forest.node) {
    const Tokens run = sequences[index(node.sample)].subspan(index(node.depth), index(node.length));
    runs.emplace_back(run.begin(), run.end());
  }
  const Words words(tokenizer, runs);
  std::vector<size_t> last_child(forest.node.size() + 1, SIZE_MAX);  // [parent + 1]
  for (size_t i = 0; i < forest.node.size(); ++i) last_child[index(forest.node[i].parent + 1)] = i;
  std::vector<std::string> indent(forest.node.size() + 1);
  std::string lines;
  for (size_t i = 0; i < forest.node.size(); ++i) {
    const prefix::ForestNode& node = forest.node[i];
    const size_t parent = index(node.parent + 1);
    const bool is_last = last_child[parent] == i;
    lines += text(indent[parent], is_last ? "└─ " : "├─ ", node.length, "  ", one_line(words[i]), "\n");
    indent[i + 1] = indent[parent] + (is_last ? "   " : "│  ");
  }
  return lines;
}

}  // namespace

std::string shown_run(std::span<const int32_t> run, data::Tokenizer& tokenizer) {
  return one_line(Words(tokenizer, {{run.begin(), run.end()}})[0]);
}

std::string show_group(const data::Group& group, data::Tokenizer& tokenizer, bool coloured) {
  std::vector<Tokens> sequences;
  int64_t logical = 0;
  for (const data::Sample& sample : group.sample) sequences.emplace_back(sample.token), logical += sample.length();
  const prefix::Forest forest = prefix::make_forest(sequences);
  std::string lines = text("group ", group.id, ": ", group.sample.size(), " samples of ", logical, " tokens, ",
                           forest.tokens(), " computed\n");
  for (size_t i = 0; i < group.sample.size(); ++i) {
    const data::Sample& sample = group.sample[i];
    const auto learned =
        std::count_if(sample.target.begin(), sample.target.end(), [](int32_t id) { return id != data::kIgnore; });
    lines += text("  sample ", i, ", ", sample.length(), " tokens, ", learned, " learned",
                  sample.reward ? text(", reward ", *sample.reward) : "", sample.truncated ? ", cut" : "", ":\n",
                  sample_lines(sample, tokenizer, coloured), "\n");
  }
  return lines + tree_lines(forest, sequences, tokenizer);
}

}  // namespace fpdist::main_program
