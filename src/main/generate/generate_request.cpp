#include "src/main/generate/generate_request.hpp"

#include <array>
#include <boost/program_options.hpp>
#include <memory>
#include <sstream>
#include <utility>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/dtype.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "src/core/key.hpp"

namespace fpdist::main_program {
namespace {

namespace po = boost::program_options;

struct ListedWords {
  std::string dtype = "float32";
  std::vector<int64_t> stops;
};

/// The section flex_prefill as fpdist_train has it.
void add_flex_prefill(generate::FlexPrefillOptions& options, po::options_description& all) {
  for (const Key& key : generate::FlexPrefillOptions::keys()) {
    const std::string name = text("flex_prefill.", key.name), meaning(key.meaning);
    const auto add = [&](auto& field) {
      all.add_options()(name.c_str(), po::value(&field)->default_value(field), meaning.c_str());
    };
    const Field field = key.field(&options);
    if (auto* const* number = std::get_if<double*>(&field)) add(**number);
    if (auto* const* count = std::get_if<int64_t*>(&field)) add(**count);
  }
}

/// What eval has of it, and its calibration.
void add_prefix_kv(GenerateRequest& to, po::options_description& all) {
  generate::PrefixKvOptions& options = to.sampling.prefix_kv;
  const auto value = [](auto& field) { return po::value(&field)->default_value(field); };
  auto add = all.add_options();
  add("eval.kv_budget", value(options.budget),
      "share of a prompt's keys that layers keep behind it (PrefixKV); 1: all");
  add("eval.kv_start_size", value(options.start_size), "its first keys that stay in any case");
  add("eval.kv_distance", value(options.distance), "so many before its last one a completion's keys go as it grows");
  add("write_kv_profile", po::value(&to.write_kv_profile),
      "calibrate: what share of its keys each layer dropped by eval.kv_budget, in the mean over these prompts, as "
      "JSON");
  add("eval.kv_profile", po::value(&to.config.eval.kv_profile),
      "such a file: layers drop these shares of every prompt's keys, by its budget and start size");
}

/// The section reward.
void add_reward(rewards::RewardOptions& reward, po::options_description& all) {
  auto add = all.add_options();
  const auto several = [](auto& field) { return po::value(&field)->multitoken(); };
  add("reward.functions", several(reward.functions),
      text("judge completions, which get a reward each: ", rewards::builtin_names()).c_str());
  add("reward.weights", several(reward.weights), "what each is multiplied by, the command's behind them; default: 1");
  add("reward.command", several(reward.command), "or a program that judges, as fpdist_train has it");
  add("reward.answer_column", po::value(&reward.answer_column)->default_value(reward.answer_column),
      "the prompts' column with the right answer");
  add("reward.pattern", po::value(&reward.pattern), "regex: an extended POSIX expression");
}

po::options_description describe(GenerateRequest& to, ListedWords& words) {
  generate::SamplingOptions& sampling = to.sampling;
  const auto value = [](auto& field) { return po::value(&field)->default_value(field); };
  po::options_description all;
  auto add = all.add_options();
  add("help,h", po::bool_switch(&to.help), "this text");
  add("version", po::bool_switch(&to.version), "version and commit");
  add("config", po::value<std::string>(),
      "a configuration of fpdist_train: model, tokenizer, rollout, reward, parallel, flex_prefill and eval.kv_* as it "
      "has them; what else is "
      "given "
      "here comes before it");
  plan::ParallelOptions& mesh = to.config.parallel;
  add("parallel.dp", value(mesh.dp),
      "under mpirun: copies of the model, each with its part of the prompts; -1: the rest");
  add("parallel.tp", value(mesh.tp), "ranks that a layer is cut over");
  add("parallel.pp", value(mesh.pp), "ranks that the layers are cut over");
  add("model.path", po::value(&to.config.model.path), "Hugging Face directory: config.json, weights, tokenizer");
  add("model.preset", po::value(&to.config.model.preset), "or a preset with seeded weights, to try: tiny");
  add("model.dtype", value(words.dtype), "float32 | bfloat16 | float64");
  add("model.device", value(to.config.model.device), "auto | cpu | cuda");
  add("data.tokenizer", po::value(&to.config.data.tokenizer), "bytes, or a directory; default: the model's own");
  add("prompts", po::value(&to.prompts),
      "JSON lines, or a .parquet or .arrow of such rows: {\"prompt_ids\": [...]} or {\"prompt\": a string or a list of "
      "{role, content}}; other columns go "
      "along into the output");
  add("output", po::value(&to.output),
      "JSON lines, as method grpo reads them once each completion has a reward: {\"prompt_ids\", \"completions\": "
      "[{\"ids\", \"old_logps\", \"finish_reason\", \"text\"}]}; must not be there yet");
  add("rollout.num_generations", value(sampling.num_generations), "completions of each prompt");
  add("rollout.max_completion_length", value(sampling.max_completion_length), "tokens, the stop token among them");
  add("rollout.temperature", value(sampling.temperature), "0: the likeliest token");
  add("rollout.top_k", value(sampling.top_k), "only the k likeliest; 0: off");
  add("rollout.top_p", value(sampling.top_p), "only the likeliest whose sum first reaches p; 1: off");
  add("rollout.min_p", value(sampling.min_p), "only those of at least p times the likeliest's; 0: off");
  add("rollout.repetition_penalty", value(sampling.repetition_penalty), "of tokens that are there; 1: off");
  add("rollout.stop_token_ids", po::value(&words.stops)->multitoken(),
      "beside those of generation_config.json, config.json and the tokenizer");
  add("rollout.stop", po::value(&sampling.stop)->multitoken(),
      "texts that end a completion, wherever in tokens they begin and end; they stay in ids and text, and what judges "
      "sees the text ahead of them");
  add("rollout.batch_invariant", po::value(&sampling.batch_invariant)->default_value(false)->implicit_value(true),
      "the same bits whatever else is generated; on the CPU, float32 and bfloat16");
  add("rollout.max_num_seqs", value(sampling.max_num_seqs), "completions that are decoded together");
  add("rollout.max_num_batched_tokens", value(sampling.max_num_batched_tokens),
      "rows that are computed together, of prompts and of completions");
  add("rollout.kv_gib", value(sampling.kv_gib),
      "GiB for keys and values; completions enter as it allows; 0: as max_num_seqs alone does");
  add_reward(to.config.reward, all);
  add("pass_at", po::value(&to.pass_at)->multitoken(), "k of pass@k, said at the end; default: 1");
  add("rollout.seed", value(sampling.seed), "of the draws");
  add_flex_prefill(sampling.flex_prefill, all);
  add_prefix_kv(to, all);
  return all;
}

/// What others call it.
constexpr std::array<std::pair<const char*, const char*>, 18> kOtherNames{
    {{"n", "rollout.num_generations"},
     {"num_return_sequences", "rollout.num_generations"},
     {"max_tokens", "rollout.max_completion_length"},
     {"max_new_tokens", "rollout.max_completion_length"},
     {"temperature", "rollout.temperature"},
     {"top_k", "rollout.top_k"},
     {"top_p", "rollout.top_p"},
     {"min_p", "rollout.min_p"},
     {"eos_token_id", "rollout.stop_token_ids"},
     {"stop_token_ids", "rollout.stop_token_ids"},
     {"stop", "rollout.stop"},
     {"stop_strings", "rollout.stop"},
     {"model", "model.path"},
     {"reward_funcs", "reward.functions"},
     {"check", "reward.functions"},
     {"reward_weights", "reward.weights"},
     {"kv_profile", "eval.kv_profile"},
     {"input", "prompts"}}};

/// Of --config FILE or --config=FILE; "": there is none.
std::string config_file(const std::vector<std::string>& arguments) {
  const std::string name = "--config";
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == name && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].starts_with(name + "=")) return arguments[i].substr(name.size() + 1);
  }
  return "";
}

/// What a run's configuration says of it becomes what options begin with.
void take_config(const std::string& file, GenerateRequest& request, ListedWords& words) {
  const config::Config config = config::parse_command_line({"--config", file}).config;
  request.config.model = config.model;
  request.config.data.tokenizer = config.data.tokenizer;
  request.config.reward = config.reward;
  request.config.parallel = config.parallel;
  request.config.adapter = config.adapter;
  request.sampling = config.rollout;
  request.sampling.flex_prefill = config.flex_prefill;
  request.sampling.prefix_kv = {
      .budget = config.eval.kv_budget, .start_size = config.eval.kv_start_size, .distance = config.eval.kv_distance};
  request.config.eval.kv_profile = config.eval.kv_profile;
  words.dtype = name_of(config.model.dtype);
  words.stops = config.rollout.stop_token_ids;
}

std::string answer(const po::unknown_option& error) {
  std::string name = error.get_option_name();
  name.erase(0, name.find_first_not_of('-'));
  for (const auto& [other, own] : kOtherNames)
    if (name == other || name == std::string("rollout.") + other)
      return text("--", name, ": unknown option; it is --", own, " here");
  return text("--", name, ": unknown option; fpdist_generate --help lists them all");
}

}  // namespace

std::string generate_help() {
  GenerateRequest request;
  ListedWords words;
  std::ostringstream all;
  all << "[mpirun -np RANKS] fpdist_generate [[--config] FILE.yaml] --model.path DIR --prompts FILE.jsonl --output "
         "FILE.jsonl [--rollout.temperature 0 ...]\n"
      << "Completions of prompts that share prefixes, each prefix computed once. Relative paths count from where the "
         "program is started.\n"
      << describe(request, words);
  return all.str();
}

GenerateRequest parse_generate_request(std::vector<std::string> arguments) {
  if (!arguments.empty() && !arguments.front().starts_with("-")) arguments.insert(arguments.begin(), "--config");
  GenerateRequest request;
  ListedWords words;
  if (const std::string file = config_file(arguments); !file.empty()) take_config(file, request, words);
  try {
    po::variables_map values;
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments).options(describe(request, words)).style(style).run(), values);
    po::notify(values);
  } catch (const po::unknown_option& error) {
    throw ConfigError(answer(error));
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_generate --help"));
  }
  if (request.help || request.version) return request;
  check<ConfigError>(request.config.model.path.empty() != request.config.model.preset.empty(),
                     "give one of --model.path DIR and --model.preset tiny");
  check<ConfigError>(!request.prompts.empty() && !request.output.empty(),
                     "give --prompts FILE.jsonl and --output FILE");
  request.config.model.dtype = dtype_from_name(words.dtype);
  request.sampling.stop_token_ids = words.stops;
  const std::string& profile = request.config.eval.kv_profile;
  check<ConfigError>(request.write_kv_profile.empty() || (request.sampling.prefix_kv.is_on() && profile.empty()),
                     "--write_kv_profile says what layers drop by a budget: give --eval.kv_budget below 1, and no "
                     "--eval.kv_profile");
  check<ConfigError>(profile.empty() || !request.sampling.flex_prefill.is_on(), "eval.kv_profile ", profile,
                     " and flex_prefill.gamma ", request.sampling.flex_prefill.gamma, ": leave out one of the two");
  generate::SamplingOptions checked = request.sampling;
  checked.token_bytes = std::make_shared<const std::vector<std::string>>();  // the tokenizer's come later
  generate::check_options(checked);
  if (request.pass_at.empty()) request.pass_at = {1};
  for (const int64_t k : request.pass_at)
    check<ConfigError>(k >= 1 && k <= request.sampling.num_generations, "--pass_at has ", k,
                       ", and there are --rollout.num_generations ", request.sampling.num_generations,
                       " completions of a prompt: k is 1 to so many");
  return request;
}

}  // namespace fpdist::main_program
