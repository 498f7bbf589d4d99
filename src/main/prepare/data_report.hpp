#pragma once
// main: what a data set is like, and what its prefixes will save.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/config/config.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::main_program {

/// Lengths of something, in tokens.
struct Lengths {
  std::string of;
  std::vector<int64_t> sorted;
  int64_t quantile(double share) const;
  double mean() const;
};

/// Lengths of [from, to) and how many there are.
struct Bar {
  int64_t from, to, count;
};
/// `bars` ranges of like width at most, from the shortest to the longest.
std::vector<Bar> histogram(const Lengths& lengths, int bars);

/// A run of tokens that several samples share from their start on.
struct SharedPrefix {
  int64_t tokens, samples;
  std::string text;  ///< its beginning and end
  /// Tokens that are not computed again, of the run itself: what is above it counts there.
  int64_t saved = 0;
};

struct DataReport {
  int64_t groups = 0, samples = 0, tokens = 0, targets = 0, dropped = 0, cut = 0, differing_prompts = 0;
  std::vector<Lengths> lengths = {};  ///< prompt, completion, sample, group (tokens of its tree)
  /// Tokens over computed tokens: inside groups; in a step, shuffled and batched by prefix; over the whole set.
  double sharing_groups = 1, sharing_shuffled = 1, sharing_by_prefix = 1, sharing_all = 1;
  std::vector<SharedPrefix> largest = {};  ///< by tokens saved
};

DataReport make_report(const data::Dataset& dataset, const config::Config& config, data::Tokenizer& tokenizer);
std::string report_text(const DataReport& report);
std::string report_json(const DataReport& report);
/// A page without any other file.
std::string report_html(const DataReport& report);

}  // namespace fpdist::main_program
