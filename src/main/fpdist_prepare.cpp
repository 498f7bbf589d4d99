// fpdist_prepare: data that the project makes itself.
//   fpdist_prepare --generate arithmetic --pairs 1024 --shots 12 --seed 0 --output FILE.jsonl

#include <boost/program_options.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "fpdist/core/error.hpp"
#include "fpdist/data/generate.hpp"
#include "src/main/program.hpp"

namespace {

using namespace fpdist;
namespace po = boost::program_options;

void prepare(int argc, char** argv) {
  std::string generator, output;
  int64_t pairs;
  int shots;
  uint64_t seed;
  po::options_description options("fpdist_prepare");
  options.add_options()("help", "this text")("generate", po::value(&generator)->required(),
                                             "arithmetic: preference pairs behind one long few-shot preamble")(
      "pairs", po::value(&pairs)->default_value(1024), "rows to write")("shots", po::value(&shots)->default_value(12),
                                                                        "worked examples in the preamble")(
      "seed", po::value(&seed)->default_value(0), "the same seed writes the same bytes")(
      "output", po::value(&output)->required(), "JSONL file to write");
  po::variables_map values;
  try {
    po::store(po::parse_command_line(argc, argv, options), values);
    if (values.count("help")) {
      std::cout << options;
      return;
    }
    po::notify(values);
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_prepare --help"));
  }
  check<ConfigError>(generator == "arithmetic", "unknown --generate ", generator, ": use arithmetic");
  check<ConfigError>(pairs >= 1 && shots >= 0, "--pairs must be 1 or more and --shots 0 or more");
  const auto parent = std::filesystem::path(output).parent_path();
  std::error_code made;
  if (!parent.empty()) std::filesystem::create_directories(parent, made);
  std::ofstream file(output);
  check<DiskError>(file.is_open(), "cannot write ", output, ": check the path and its permissions");
  data::generate_arithmetic_pairs(file, pairs, shots, seed);
  file.close();
  check<DiskError>(!file.fail(), "cannot write ", output, ": is the disk full?");
}

}  // namespace

int main(int argc, char** argv) {
  return main_program::run([&] { prepare(argc, argv); });
}
