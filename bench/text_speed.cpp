// MB/s of reading rows, as read_dataset does it: text_speed MODEL_DIRECTORY FILE.jsonl WORKERS
// FILE has sft rows, text or token ids. Prints one line of JSON. bench/text_speed.py makes the files and the baseline.

#include <filesystem>
#include <iostream>
#include <string>

#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/core/clock.hpp"

int main(int argc, char** argv) {
  using namespace fpdist;
  if (argc != 4) return std::cerr << "usage: text_speed MODEL_DIRECTORY FILE.jsonl WORKERS\n", 2;
  try {
    const auto tokenizer = data::make_worker_tokenizer({.directory = argv[1], .workers = std::stoi(argv[3])});
    (void)tokenizer->facts();  // the first worker is there
    data::DataOptions options;
    options.path = {argv[2]};
    options.max_length = int64_t{1} << 30;
    NullLog log;
    const auto start = Clock::now();
    const data::Dataset read = data::read_dataset(options, Method::kSft, *tokenizer, log);
    const double seconds = seconds_since(start);
    int64_t tokens = 0;
    for (const data::Group& group : read.group) tokens += group.sample[0].length();
    const double megabytes = static_cast<double>(std::filesystem::file_size(argv[2])) / 1e6;
    std::cout << "{\"rows\": " << read.group.size() << ", \"tokens\": " << tokens << ", \"seconds\": " << seconds
              << ", \"file_mb_per_second\": " << megabytes / seconds << "}\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
