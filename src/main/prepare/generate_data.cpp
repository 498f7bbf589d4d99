#include "src/main/prepare/generate_data.hpp"

#include <boost/program_options.hpp>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/data/made/generate.hpp"
#include "src/data/made/hybrids.hpp"
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
  std::string low, high, hybrids;
  data::PrefixPromptOptions prefixes;
};

po::options_description options_for(Request& request) {
  po::options_description options("fpdist_prepare");
  auto add = options.add_options();
  add("help", "this text");
  add("generate", po::value(&request.generator)->required(),
      "arithmetic: preference pairs behind one long few-shot preamble; many-shot: questions of --input behind one "
      "long preamble of its worked examples; sums: prompts with answers, sums of one digit; prefixes: prompts of "
      "--input "
      "with the beginning of their demonstrations; hybrids: completions of these among those of --input");
  add("pairs", po::value(&request.pairs)->default_value(1024), "arithmetic: rows to write");
  add("shots", po::value(&request.shots)->default_value(12), "arithmetic: worked examples in the preamble");
  add("input", po::value(&request.many_shot.input),
      "many-shot: JSONL rows with prompt, completions and rewards; prefixes: with prompt_ids and demonstration_ids; "
      "hybrids: of fpdist_generate");
  add("tokens", po::value(&request.many_shot.tokens)->default_value(16384), "many-shot: least bytes of the preamble");
  add("questions", po::value(&request.many_shot.questions)->default_value(4), "many-shot: rows to write");
  add("step", po::value(&request.prefixes.step)->default_value(0), "prefixes: how far the run is");
  add("low", po::value(&request.low)->default_value("cosine_decay,0.95,0.05,1"),
      "prefixes: a bound of the share of a demonstration: const | linear_decay | cosine_decay, then FIRST[,LAST[,STEPS"
      "[,WARMUP_STEPS[,DELAY_STEPS[,DELAY_VALUE]]]]]");
  add("high", po::value(&request.high)->default_value("const,0.95"), "prefixes: the other bound");
  add("alpha", po::value(&request.prefixes.lengths.alpha)->default_value(1),
      "prefixes: of the Beta distribution between the bounds");
  add("beta", po::value(&request.prefixes.lengths.beta)->default_value(1), "prefixes: the same");
  add("min_tokens", po::value(&request.prefixes.lengths.min_tokens)->default_value(1), "prefixes: of each at least");
  add("hybrids", po::value(&request.hybrids), "hybrids: what fpdist_generate has made of prefixes, with rewards");
  add("seed", po::value(&request.many_shot.seed)->default_value(0), "the same seed writes the same bytes");
  add("output", po::value(&request.output)->required(), "JSONL file to write");
  return options;
}

std::string prefixes_of(const Request& request) {
  data::PrefixPromptOptions options = request.prefixes;
  options.input = request.many_shot.input, options.seed = request.many_shot.seed;
  options.lengths.low = data::parse_schedule("--low", request.low);
  options.lengths.high = data::parse_schedule("--high", request.high);
  return data::prefix_prompts(options);
}

std::string rows_of(const Request& request) {
  if (request.generator == "prefixes") return prefixes_of(request);
  if (request.generator == "hybrids") return data::hybrid_groups(request.many_shot.input, request.hybrids);
  if (request.generator == "sums") return data::digit_sums();
  if (request.generator == "many-shot") return data::many_shot_rows(request.many_shot);
  return data::arithmetic_pairs(request.pairs, request.shots, request.many_shot.seed);
}

void check_request(const Request& request) {
  const std::string& name = request.generator;
  const bool reads = name == "many-shot" || name == "prefixes" || name == "hybrids";
  check<ConfigError>(reads || name == "arithmetic" || name == "sums", "unknown --generate ", name,
                     ": use arithmetic, many-shot, sums, prefixes or hybrids");
  check<ConfigError>(!reads || !request.many_shot.input.empty(), "--generate ", name, " needs --input: name a file of ",
                     name == "many-shot"  ? "GRPO text rows"
                     : name == "prefixes" ? "rows with prompt_ids and demonstration_ids"
                                          : "rows of fpdist_generate");
  check<ConfigError>(name != "hybrids" || !request.hybrids.empty(),
                     "--generate hybrids needs --hybrids: name what fpdist_generate has made of --generate prefixes");
  check<ConfigError>(reads || (request.pairs >= 1 && request.shots >= 0),
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
  inputs.add("--input", request.many_shot.input), inputs.add("--hybrids", request.hybrids);
  inputs.check_spared(request.output, "give --output another name");
  const std::string rows = rows_of(request);  // before the folder is made: an error leaves nothing
  const auto parent = std::filesystem::path(request.output).parent_path();
  std::error_code made;
  if (!parent.empty()) std::filesystem::create_directories(parent, made);
  files::write(request.output, rows);
}

}  // namespace fpdist::main_program
