// fpdist_plan: what a step will cost on any mesh, without a GPU and without MPI.
//   fpdist_plan --lengths FILE.jsonl --parallel.dp 8 --parallel.pp 4 --parallel.schedule 1f1b --pack.max_tokens 8192
//   fpdist_plan ... --compare --json FILE --trace FILE --html FILE

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/types.hpp"
#include "fpdist/plan/costs_file.hpp"
#include "src/main/plan_report.hpp"

namespace {

using namespace fpdist;
using namespace fpdist::main_program;
namespace po = boost::program_options;

struct Arguments {
  std::string lengths, costs, schedule, method, json, trace, html;
  std::vector<std::string> layers, world;
  PlanRequest request;
  bool compare = false, help = false;
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

po::options_description describe(Arguments& to) {
  plan::PlannerOptions& options = to.request.options;
  po::options_description all("fpdist_plan");
  const auto text_value = [](std::string& field, const char* otherwise = "") {
    return po::value(&field)->default_value(otherwise);
  };
  all.add_options()("help", po::bool_switch(&to.help), "this text");
  all.add_options()("lengths", text_value(to.lengths),
                    "JSONL file: {\"prefix\": tokens, \"completions\": [tokens, ...]}");
  all.add_options()("parallel.dp", po::value(&options.replicas)->default_value(1), "replicas");
  all.add_options()("parallel.pp", po::value(&options.parallel.pp)->default_value(1), "pipeline stages");
  all.add_options()("parallel.schedule", text_value(to.schedule, "1f1b"), "1f1b | interleaved | zb-h1");
  all.add_options()("parallel.virtual_stages", po::value(&options.parallel.virtual_stages)->default_value(0),
                    "runs of layers a stage (0: 2 with interleaving, else 1)");
  all.add_options()("parallel.layers", po::value(&to.layers)->multitoken(), "layers of each run (by cost)");
  all.add_options()("pack.max_tokens", po::value(&options.max_tokens)->default_value(8192), "most rows in a pack");
  all.add_options()("pack.max_in_flight", po::value(&options.max_in_flight)->default_value(0),
                    "most rows in flight on a stage (0: what whole packs need)");
  all.add_options()(
      "method", text_value(to.method, "auto"),
      "dpo and reward keep groups together, sft and grpo may tear them; auto: lines of two completions are pairs");
  all.add_options()("costs", text_value(to.costs),
                    "cost file (configs/costs/llama3-8b.yaml, whose values are built in)");
  all.add_options()("world", po::value(&to.world)->multitoken(), "ranks to predict the step time for, as dp * pp");
  all.add_options()("compare", po::bool_switch(&to.compare), "also price how others pack, each at its best cap");
  all.add_options()("json", text_value(to.json), "write the figures and the plan to this file");
  all.add_options()("trace", text_value(to.trace), "write the simulated timeline of replica 0 for ui.perfetto.dev");
  all.add_options()("html", text_value(to.html), "write a page with the simulated timelines");
  return all;
}

/// --lengths names the samples. (A config names data and a step instead: the same request made from its groups.)
void read_request(Arguments& arguments) {
  plan::PlannerOptions& options = arguments.request.options;
  check<ConfigError>(!arguments.lengths.empty(), "--lengths FILE.jsonl is missing; see fpdist_plan --help");
  check<ConfigError>(options.replicas >= 1 && options.parallel.pp >= 1,
                     "--parallel.dp and --parallel.pp must be 1 or more");
  check<ConfigError>(options.max_tokens >= 1, "--pack.max_tokens must be 1 or more");
  options.parallel.schedule = plan::schedule_from_name(arguments.schedule);
  const bool interleaved = options.parallel.schedule == plan::Schedule::kInterleaved;
  if (options.parallel.virtual_stages == 0) options.parallel.virtual_stages = interleaved ? 2 : 1;
  options.parallel.layers = numbers(arguments.layers, "--parallel.layers");
  if (!arguments.costs.empty()) arguments.request.costs = plan::read_costs(arguments.costs);
  arguments.request.tree = plan::read_lengths(arguments.lengths);
  options.atomic = arguments.method == "auto"                          ? plan::Atomic::kPairs
                   : is_preference(method_from_name(arguments.method)) ? plan::Atomic::kLines
                                                                       : plan::Atomic::kSamples;
}

void write_file(const std::string& path, const std::string& content) {
  if (path.empty()) return;
  std::ofstream file(path, std::ios::binary);
  check<DiskError>(file.is_open(), "cannot write ", path, ": check the path and its permissions");
  file << content;
  file.close();
  check<DiskError>(!file.fail(), "cannot write ", path, ": is the disk full?");
}

void print_scaling(const Arguments& arguments) {
  for (const int64_t ranks : numbers(arguments.world, "--world")) {
    PlanRequest other = arguments.request;
    const int pp = other.options.parallel.pp;
    check<ConfigError>(ranks >= pp && ranks % pp == 0, "--world ", ranks, " is no multiple of --parallel.pp ", pp);
    other.options.replicas = static_cast<int>(ranks / pp);
    const plan::PlanFigures figures = plan_step(other).figures;
    std::cout << "world " << ranks << ": dp " << other.options.replicas << ", step / ideal " << figures.step_over_ideal
              << ", step " << figures.step << " cost units\n";
  }
}

void plan_and_report(int argc, char** argv) {
  Arguments arguments;
  const po::options_description options = describe(arguments);
  try {
    po::variables_map values;
    po::store(po::command_line_parser(argc, argv).options(options).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_plan --help"));
  }
  if (arguments.help) {
    std::cout << options;
    return;
  }
  read_request(arguments);
  const PlanRequest& request = arguments.request;
  const PlannedStep step = plan_step(request);
  const std::vector<Comparison> others = arguments.compare ? compare(request, step.plan) : std::vector<Comparison>();
  std::cout << to_text(request, step, others);
  print_scaling(arguments);
  write_file(arguments.json, to_json(request, step, others).dump(1) + "\n");
  if (!arguments.trace.empty()) {
    // A cost unit has no length of its own: the step is drawn as one second.
    std::vector<plan::TimelineEvent> events = timeline_of(request, step.plan, 0);
    const double second = static_cast<double>(step.plan.step);
    for (plan::TimelineEvent& event : events) event.begin /= second, event.end /= second;
    write_file(arguments.trace, plan::to_trace_json(events));
  }
  if (!arguments.html.empty()) write_file(arguments.html, to_html(request, step));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    plan_and_report(argc, argv);
    return 0;
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::cerr << "internal error: " << error.what() << std::endl;
    return static_cast<int>(ExitCode::kUsage);
  }
}
