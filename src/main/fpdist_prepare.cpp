// fpdist_prepare: data before they are trained on.
//   fpdist_prepare [--config] FILE.yaml [--section.key value ...] [--show N] [--dump FILE.jsonl] [--report FILE.json]
//                  [--html FILE.html] [--prune]
//   fpdist_prepare --generate arithmetic --pairs 1024 --shots 12 --seed 0 --output FILE.jsonl
//   fpdist_prepare --generate prefixes --input DEMONSTRATIONS.jsonl --step 10 --output PROMPTS.jsonl
//   fpdist_prepare --generate hybrids --input PLAIN.jsonl --hybrids HYBRIDS.jsonl --output GROUPS.jsonl
//   fpdist_prepare --generate many-shot --input GROUPS.jsonl --tokens 16384 --questions 4 --seed 0 --output FILE.jsonl

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "src/main/prepare/generate_data.hpp"
#include "src/main/prepare/prepare_data.hpp"
#include "src/main/program.hpp"

namespace {

const char kHelp[] =
    "fpdist_prepare [--config] FILE.yaml [--section.key value ...] [--show N] [--dump FILE.jsonl]\n"
    "               [--report FILE.json] [--html FILE.html]\n"
    "  reads the data of a configuration as fpdist_train would and says what they are like: lengths, what prefixes\n"
    "  save inside groups, in steps and over all, the largest shared prefixes\n"
    "  --show N      print the first N groups, what is learned marked, and the tree of each\n"
    "  --dump FILE   write them as rows of token ids, which fpdist_train reads back to the same groups\n"
    "  --report FILE the same figures as JSON\n"
    "  --html FILE   and as a page: histograms, the sharing to expect, the largest shared prefixes\n"
    "  --prune       only remove the token caches beside this configuration's\n"
    "  (fpdist_train --help lists the keys)\n"
    "fpdist_prepare --generate arithmetic | many-shot | sums ...: made-up rows; --generate prefixes | hybrids ...: "
    "rows\n"
    "  for Prefix-RFT out of demonstrations; --generate X --help lists the options\n";

}  // namespace

int main(int argc, char** argv) {
  using namespace fpdist::main_program;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto has = [&](const char* word) {
    return std::any_of(arguments.begin(), arguments.end(),
                       [&](const std::string& one) { return one == word || one.starts_with(std::string(word) + "="); });
  };
  return run([&] {
    if (has("--generate")) return generate_data(arguments);
    if (has("--version")) {
      std::cout << version_text();
      return;
    }
    if (has("--help") || has("-h") || arguments.empty()) {
      std::cout << kHelp;
      return;
    }
    prepare_data(arguments);
  });
}
