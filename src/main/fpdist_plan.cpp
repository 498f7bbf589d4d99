// fpdist_plan: what a step will cost on any mesh, without a GPU and without MPI.
//   fpdist_plan --lengths FILE.jsonl --parallel.dp 8 --parallel.pp 4 --parallel.schedule 1f1b --pack.max_tokens 8192
//   fpdist_plan --config FILE.yaml [--section.key value ...] [--steps N]
//   fpdist_plan --replay OUTPUT/step-12.plan.json
//   fpdist_plan ... --compare --world-sizes 8,16,32 --json FILE --trace FILE --html FILE --complete

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <iomanip>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/config/inputs.hpp"
#include "src/files/files.hpp"
#include "src/files/inputs.hpp"
#include "src/main/page/page.hpp"
#include "src/main/plain_program.hpp"
#include "src/main/plan/plan_config.hpp"
#include "src/main/plan/plan_report.hpp"
#include "src/main/plan/replay.hpp"
#include "src/main/plan/world_search.hpp"
#include "src/plan/costs/cluster.hpp"
#include "src/plan/costs/costs_file.hpp"

namespace {

using namespace fpdist;
using namespace fpdist::main_program;
namespace po = boost::program_options;

struct Arguments {
  std::string config, replay, lengths, costs, cluster, model, schedule, method, json, trace, html;
  std::vector<std::string> layers, world_sizes;
  std::string costs_of_config;  ///< plan.costs
  PlanRequest request;          ///< what a length file is planned with
  int64_t steps = 1;
  bool compare = false, complete = false, help = false, version = false;
};

/// Numbers of a list, given as one argument with commas, as several, or both.
std::vector<int64_t> numbers(const std::vector<std::string>& arguments, std::string_view name) {
  std::vector<int64_t> all;
  for (const std::string& argument : arguments)
    for (size_t begin = 0; begin <= argument.size();) {
      const size_t end = std::min(argument.find(',', begin), argument.size());
      int64_t number = 0;
      const auto [stop, error] = std::from_chars(argument.data() + begin, argument.data() + end, number);
      check<ConfigError>(error == std::errc() && stop == argument.data() + end, name, ": '", argument,
                         "' is not a list of whole numbers");
      all.push_back(number);
      begin = end + 1;
    }
  return all;
}

auto text_value(std::string& field, const char* otherwise = "") { return po::value(&field)->default_value(otherwise); }

/// For either source of lengths.
po::options_description describe(Arguments& to) {
  po::options_description all("fpdist_plan");
  all.add_options()("help,h", po::bool_switch(&to.help), "this text");
  all.add_options()("version", po::bool_switch(&to.version), "version and commit");
  all.add_options()("lengths", text_value(to.lengths),
                    "JSONL file: {\"prefix\": tokens, \"completions\": [tokens, ...]}");
  all.add_options()("config", text_value(to.config),
                    "or a configuration of fpdist_train, with any --section.key of its own");
  all.add_options()("replay", text_value(to.replay),
                    "or step-N.plan.json, which a run wrote of a step that it left out: that step, planned as it was");
  all.add_options()("steps", po::value(&to.steps)->default_value(1), "with --config: plan the first n steps");
  all.add_options()("costs", text_value(to.costs),
                    "cost file (default: configs/costs/llama3-8b.yaml, which is built in; with --config the config's "
                    "own, or the model's operations)");
  all.add_options()("world-sizes", po::value(&to.world_sizes)->multitoken(),
                    "numbers of ranks to predict the step time for; more ranks are more replicas");
  all.add_options()("cluster", text_value(to.cluster),
                    "with --world-sizes: a cluster file (configs/clusters/h100-8.yaml); of each size the best mesh of "
                    "those that fit, seconds, tokens a second, MFU and what binds");
  all.add_options()("compare", po::bool_switch(&to.compare), "also price how others pack, each at its best cap");
  all.add_options()("complete", po::bool_switch(&to.complete),
                    "above 20,000 samples, too: other schedules and meshes, every pack in --json, every replica in "
                    "--html; with --cluster, every mesh is planned");
  all.add_options()("json", text_value(to.json), "write the figures and the plan to this file");
  all.add_options()("trace", text_value(to.trace), "write the simulated timeline of replica 0 for ui.perfetto.dev");
  all.add_options()("html", text_value(to.html), "write a page with the simulated timelines");
  return all;
}

/// What a config would say.
po::options_description describe_lengths(Arguments& to) {
  plan::PlannerOptions& options = to.request.options;
  po::options_description all("with --lengths");
  all.add_options()("parallel.dp", po::value(&options.replicas)->default_value(1), "replicas");
  all.add_options()("parallel.pp", po::value(&options.parallel.pp)->default_value(1), "pipeline stages");
  all.add_options()("parallel.schedule", text_value(to.schedule, "1f1b"), "1f1b | interleaved | zb-h1");
  all.add_options()("parallel.virtual_stages", po::value(&options.parallel.virtual_stages)->default_value(0),
                    "runs of layers a stage (0: 2 with interleaving, else 1)");
  all.add_options()("parallel.layers", po::value(&to.layers)->multitoken(), "layers of each run (by cost)");
  all.add_options()("pack.max_tokens", po::value(&options.max_tokens)->default_value(8192), "most rows in a pack");
  all.add_options()("pack.max_in_flight", po::value(&options.max_in_flight)->default_value(0),
                    "most rows in flight on a stage (0: what whole packs need)");
  all.add_options()("model", text_value(to.model), "with --cluster: the model's config.json (default: Llama-3-8B's)");
  all.add_options()(
      "method", text_value(to.method, "auto"),
      "dpo and reward keep groups together, sft and grpo may tear them; auto: lines of two completions are pairs");
  return all;
}

/// What is written must be none of what is read.
void check_outputs(const Arguments& arguments, const files::Inputs& inputs) {
  for (const auto& [option, path] :
       {std::pair("--json", &arguments.json), {"--trace", &arguments.trace}, {"--html", &arguments.html}})
    inputs.check_spared(*path, text("give ", option, " another name"));
}

PlanRequest read_length_file(Arguments& arguments) {
  plan::PlannerOptions& options = arguments.request.options;
  check<ConfigError>(options.replicas >= 1 && options.parallel.pp >= 1,
                     "--parallel.dp and --parallel.pp must be 1 or more");
  check<ConfigError>(options.max_tokens >= 1, "--pack.max_tokens must be 1 or more");
  check<ConfigError>(options.max_in_flight >= 0, "--pack.max_in_flight must be 0 or more");
  options.parallel.schedule = plan::schedule_from_name(arguments.schedule);
  const bool interleaved = options.parallel.schedule == plan::Schedule::kInterleaved;
  if (options.parallel.virtual_stages == 0) options.parallel.virtual_stages = interleaved ? 2 : 1;
  options.parallel.layers = numbers(arguments.layers, "--parallel.layers");
  if (!arguments.costs.empty()) arguments.request.costs = plan::read_costs(arguments.costs);
  arguments.request.tree = plan::read_lengths(arguments.lengths);
  files::Inputs inputs;
  inputs.add("--lengths", arguments.lengths);
  inputs.add("--model", arguments.model);
  inputs.add("--costs", arguments.costs);
  inputs.add("--cluster", arguments.cluster);
  check_outputs(arguments, inputs);
  options.atomic = arguments.method == "auto" ? plan::Atomic::kPairs
                                              : loss::spec_of(method_from_name(arguments.method), {}).atomic();
  return arguments.request;
}

/// Steps to plan, the first in full. With --config, arguments that are not ours are the config's.
std::vector<PlanRequest> read_requests(int argc, char** argv, Arguments& arguments) {
  const po::options_description common = describe(arguments), lengths = describe_lengths(arguments);
  const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
  std::vector<std::string> others;
  try {
    po::variables_map values;
    const po::parsed_options ours =
        po::command_line_parser(argc, argv).options(common).style(style).allow_unregistered().run();
    po::store(ours, values);
    po::notify(values);
    if (!arguments.replay.empty()) {
      check<ConfigError>(arguments.config.empty(), "give one of --config and --replay");
      arguments.config = read_replay(arguments.replay).config;
    }
    if (arguments.config.empty()) {
      po::options_description all;
      all.add(common).add(lengths);
      po::variables_map again;
      po::store(po::command_line_parser(argc, argv).options(all).style(style).run(), again);
      po::notify(again);
    }
    others = po::collect_unrecognized(ours.options, po::include_positional);
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_plan --help"));
  }
  if (arguments.help || arguments.version) {
    if (arguments.version)
      std::cout << plain_version_text();
    else
      std::cout << common << lengths;
    return {};
  }
  check<ConfigError>(arguments.lengths.empty() != arguments.config.empty(),
                     arguments.lengths.empty() ? "--lengths FILE.jsonl is missing, or --config FILE.yaml"
                                               : "give one of --lengths and --config",
                     "; see fpdist_plan --help");
  check<ConfigError>(arguments.cluster.empty() || !arguments.world_sizes.empty(),
                     "--cluster needs the numbers of GPUs: --world-sizes 8,64,512");
  check<ConfigError>(arguments.model.empty() || (!arguments.cluster.empty() && arguments.config.empty()),
                     "--model is for --lengths with --cluster");
  check<ConfigError>(arguments.steps >= 1, "--steps must be 1 or more");
  if (arguments.config.empty()) return {read_length_file(arguments)};
  others.insert(others.begin(), {"--config", arguments.config});
  const config::Config config = config::parse_command_line(others).config;
  arguments.costs_of_config = config.plan.costs;
  files::Inputs inputs = config::inputs_of(config);
  inputs.add("--config", arguments.config);
  inputs.add("--costs", arguments.costs);
  inputs.add("--cluster", arguments.cluster);
  check_outputs(arguments, inputs);
  return read_config({others, arguments.costs, arguments.steps});
}

void write_file(const std::string& path, const std::string& content) {
  if (!path.empty()) files::write(path, content);
}

/// The steps after the first, a line each.
nlohmann::json plan_more_steps(const std::vector<PlanRequest>& requests, const PricedStep& first) {
  nlohmann::json all = nlohmann::json::array();
  for (size_t s = 0; s < requests.size(); ++s) {
    const PricedStep later = s == 0 ? PricedStep{} : plan_step(requests[s]);
    const plan::PlanFigures& f = s == 0 ? first.figures : later.figures;
    all.push_back({{"step_over_ideal", f.step_over_ideal},
                   {"step", f.step},
                   {"bubble", f.bubble},
                   {"replica_imbalance", f.replica_imbalance},
                   {"packs", f.packs},
                   {"sharing_ratio", f.sharing_ratio},
                   {"sharing_kept", f.sharing_kept},
                   {"tokens_computed", f.tokens_computed},
                   {"hash", requests[s].job->hash}});
    std::cout << "step " << std::setw(9) << std::left << s + 1 << " step / ideal " << f.step_over_ideal << ", bubble "
              << f.bubble << ", replicas " << f.replica_imbalance << ", packs " << f.packs << ", sharing "
              << f.sharing_kept << " of " << f.sharing_ratio << '\n';
  }
  return all;
}

/// A cost unit has no length of its own unless the costs' file gives it one: the step is drawn as one second.
std::string trace_of(const Report& report) {
  std::vector<plan::TimelineEvent> events = timeline_of(report.request, report.step.plan, 0);
  const double unit = report.origin.seconds_per_unit;
  const double second = unit > 0 ? 1 / unit : static_cast<double>(report.step.plan.step);
  for (plan::TimelineEvent& event : events) event.begin /= second, event.end /= second;
  return plan::to_trace_json(events);
}

Origin origin_of(const Arguments& arguments) {
  Origin origin{.source = arguments.config.empty() ? arguments.lengths : arguments.config,
                .costs = "the operations of the model, counted",
                .seconds_per_unit = 0,
                .date = date_and_time()};
  const std::string& file = arguments.costs.empty() ? arguments.costs_of_config : arguments.costs;
  if (file.empty() && arguments.config.empty()) origin.costs = "the operations of Llama-3-8B, counted";
  if (!file.empty()) origin.costs = file, origin.seconds_per_unit = plan::read_seconds_per_unit(file);
  return origin;
}

/// What the step would take on the cluster that was given.
ClusterReport search_cluster(const Arguments& arguments, const PlanRequest& request) {
  plan::ModelBytes bytes = request.job ? request.job->bytes : llama3_8b();
  if (!arguments.model.empty())
    bytes.shape = arch::parse_model_config(files::read(arguments.model, size_t{1} << 20), arguments.model).shape();
  const plan::Cluster cluster = plan::read_cluster(arguments.cluster);
  return {.source = arguments.cluster,
          .sharing_bound = plan::sharing_bound(bytes, request.tree),
          .worlds = search_worlds(request, bytes, cluster, numbers(arguments.world_sizes, "--world-sizes"))};
}

void plan_and_report(int argc, char** argv) {
  Arguments arguments;
  std::vector<PlanRequest> requests = read_requests(argc, argv, arguments);
  if (requests.empty()) return;
  for (PlanRequest& request : requests) request.complete = arguments.complete;
  Report report{.request = requests[0],
                .step = plan_step(requests[0]),
                .origin = origin_of(arguments),
                .others = {},
                .schedules = {},
                .meshes = time_meshes(requests[0]),
                .scaling = {}};
  if (arguments.compare) report.others = compare(report.request, report.step.plan);
  report.schedules = time_schedules(report.request, report.step);
  if (arguments.cluster.empty())
    report.scaling = scale(report.request, numbers(arguments.world_sizes, "--world-sizes"));
  else
    report.cluster = search_cluster(arguments, report.request);
  if (!arguments.replay.empty()) {
    const Replay replay = read_replay(arguments.replay);
    check_replay(replay, report.request.job->hash);
    std::cout << "step " << replay.step << " of the run, planned as it was there. " << replay.why << '\n';
  }
  std::cout << to_text(report) << std::fixed << std::setprecision(3);
  nlohmann::json steps;
  if (requests.size() > 1) steps = plan_more_steps(requests, report.step);
  if (!arguments.json.empty()) {
    nlohmann::json result = to_json(report);
    if (!steps.empty()) result["steps"] = std::move(steps);
    files::write(arguments.json, result.dump(1) + "\n");
  }
  if (!arguments.trace.empty()) write_file(arguments.trace, trace_of(report));
  if (!arguments.html.empty()) write_file(arguments.html, to_html(report));
}

}  // namespace

int main(int argc, char** argv) {
  return run_alone([&] { plan_and_report(argc, argv); });
}
