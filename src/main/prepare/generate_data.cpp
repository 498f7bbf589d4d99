#include "src/main/prepare/generate_data.hpp"

#include <boost/program_options.hpp>
#include <filesystem>
#include <iostream>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/data/made/generate.hpp"
#include "src/files/files.hpp"
#include "src/files/inputs.hpp"

namespace fpdist::main_program {
namespace {

namespace po = boost::program_options;

struct Request {
  std::string generator, output;
  int64_t pairs = 0;
  int shots = 0;
  data::ManyShotOptions many_shot;
};

po::options_description options_for(Request& request) {
  po::options_description options("fpdist_prepare");
  auto add = options.add_options();
  add("help", "this text");
  add("generate", po::value(&request.generator)->required(),
      "arithmetic: preference pairs behind one long few-shot preamble; many-shot: questions of --input behind one "
      "long preamble of its worked examples; sums: prompts with answers, sums of one digit");
  add("pairs", po::value(&request.pairs)->default_value(1024), "arithmetic: rows to write");
  add("shots", po::value(&request.shots)->default_value(12), "arithmetic: worked examples in the preamble");
  add("input", po::value(&request.many_shot.input), "many-shot: JSONL rows with prompt, completions and rewards");
  add("tokens", po::value(&request.many_shot.tokens)->default_value(16384), "many-shot: least bytes of the preamble");
  add("questions", po::value(&request.many_shot.questions)->default_value(4), "many-shot: rows to write");
  add("seed", po::value(&request.many_shot.seed)->default_value(0), "the same seed writes the same bytes");
  add("output", po::value(&request.output)->required(), "JSONL file to write");
  return options;
}

std::string rows_of(const Request& request) {
  if (request.generator == "sums") return data::digit_sums();
  if (request.generator == "many-shot") return data::many_shot_rows(request.many_shot);
  return data::arithmetic_pairs(request.pairs, request.shots, request.many_shot.seed);
}

void check_request(const Request& request) {
  const bool many_shot = request.generator == "many-shot";
  const bool is_known = many_shot || request.generator == "arithmetic" || request.generator == "sums";
  check<ConfigError>(is_known, "unknown --generate ", request.generator, ": use arithmetic, many-shot or sums");
  check<ConfigError>(!many_shot || !request.many_shot.input.empty(),
                     "--generate many-shot needs --input: name a file of GRPO text rows");
  check<ConfigError>(many_shot || (request.pairs >= 1 && request.shots >= 0),
                     "--pairs must be 1 or more and --shots 0 or more");
}

}  // namespace

void generate_data(const std::vector<std::string>& arguments) {
  Request request;
  const po::options_description options = options_for(request);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(arguments).options(options).run(), values);
    if (values.count("help")) {
      std::cout << options;
      return;
    }
    po::notify(values);
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_prepare --help"));
  }
  check_request(request);
  files::Inputs inputs;
  inputs.add("--input", request.many_shot.input);
  inputs.check_spared(request.output, "give --output another name");
  const std::string rows = rows_of(request);  // before the folder is made: an error leaves nothing
  const auto parent = std::filesystem::path(request.output).parent_path();
  std::error_code made;
  if (!parent.empty()) std::filesystem::create_directories(parent, made);
  files::write(request.output, rows);
}

}  // namespace fpdist::main_program
