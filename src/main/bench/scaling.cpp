// fpdist_bench scaling: one point of a scaling curve, the trainer's own step on the job's ranks and mesh. Strong: the
// config's groups_per_step are the whole step's; weak: a rank's, so the step grows with the job. Every number is the
// median over the steps after a warm-up. MFU is of train.peak_tflops, or, where that is 0, of what a GEMM reaches when
// all ranks run one at once in this same job. Executed counts what ran, recomputation included; useful counts every
// distinct token of the step once.

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/inputs.hpp"
#include "src/config/read_data.hpp"
#include "src/files/files.hpp"
#include "src/files/inputs.hpp"
#include "src/main/bench/bench.hpp"
#include "src/main/bench/group_work.hpp"
#include "src/main/bench/model_shape.hpp"
#include "src/main/bench/scaling_file.hpp"
#include "src/main/page/page.hpp"
#include "src/main/program.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;

struct Options {
  std::string mode = "both", workload, json, report, html;
  int64_t steps = 5, warmup = 1, gemm_size = 0;
  bool with_unshared = false;
};

/// TFLOP/s of one rank while all run a GEMM at once, in the model's dtype.
double gemm_tflops(comm::World& world, comm::Device& device, DType dtype, int64_t size) {
  if (size == 0) size = device.where().is_cpu() ? 768 : 8192;
  const at::ScalarType scalar = dtype == DType::kBFloat16  ? at::kBFloat16
                                : dtype == DType::kFloat64 ? at::kDouble
                                                           : at::kFloat;
  const at::Tensor a = at::ones({size, size}, at::TensorOptions(device.where()).dtype(scalar));
  constexpr int kCalls = 4, kRounds = 3;
  std::vector<double> seconds;
  at::mm(a, a);
  for (int round = 0; round < kRounds; ++round) {
    world.communicator().barrier();
    device.mark();
    for (int i = 0; i < kCalls; ++i) at::mm(a, a);
    device.mark();
    seconds.push_back(device.seconds().back() / kCalls);
  }
  at::Tensor tflops = at::full({1}, 2e-12 * static_cast<double>(size * size * size) / median(seconds), at::kDouble);
  world.communicator().all_reduce(tflops);
  return tflops.item<double>() / world.size();
}

int64_t count_nodes(comm::World& world) {
  at::Tensor firsts = at::full({1}, world.local_rank() == 0 ? 1 : 0, at::kLong);
  world.communicator().all_reduce(firsts);
  return firsts.item<int64_t>();
}

std::vector<data::Group> groups_of(const data::Dataset& dataset, const config::Config& config, int64_t count,
                                   int64_t step) {
  const auto there = static_cast<int64_t>(dataset.group.size());
  // Rows that came twice in a step would be shared with themselves.
  check<ConfigError>(there >= count, "a step of ", count, " groups needs as many rows, the data have ", there,
                     ": lower train.groups_per_step or give more data");
  const data::Loader loader(there, count, config.train.seed, config.data.shuffle);
  return data::pick_groups(dataset, loader.step(step % (there / count)));
}

/// Operations that the step cannot do without, counted as the trainer's `mfu` counts: three times the forward.
double useful_operations(const std::vector<data::Group>& groups, const arch::Model& model) {
  plan::CostTable forward = plan::forward_cost(plan::stage_costs(model.shape()));
  forward.per_pack = 0;
  const plan::Amount work = work_of(groups, /*share=*/true);
  return 3.0 * static_cast<double>(forward.cost(work.rows, work.pairs, work.edges));
}

/// What a job is, whatever it measures.
struct ScalingJob {
  comm::World& world;
  const Options& options;
  config::Config config;
  arch::Model model;
  data::Dataset dataset;
  Line head;  ///< of every line
};

Line measure(const ScalingJob& job, trainer::Trainer& trainer, const std::string& mode) {
  const bool is_weak = mode == "weak";
  const int64_t count = job.config.train.groups_per_step * (is_weak ? job.world.size() : 1);
  std::map<std::string, std::vector<double>> seen;
  for (int64_t step = 0; step < job.options.warmup + job.options.steps; ++step) {
    const std::vector<data::Group> groups = groups_of(job.dataset, job.config, count, step);
    std::map<std::string, double> values = trainer.step(groups).values;
    if (step < job.options.warmup) continue;
    const double available = values.at("seconds") * job.config.train.peak_tflops * 1e12 * job.world.size();
    values["mfu_useful"] = useful_operations(groups, job.model) / available;
    values["mfu_executed"] = values.at("mfu") * (job.config.model.gradient_checkpointing ? 4.0 / 3.0 : 1.0);
    for (const auto& [name, value] : values) seen[name].push_back(value);
  }
  Line line = job.head;
  line["mode"] = mode;
  line["share"] = job.config.pack.share_prefix;
  line["groups_per_step"] = count;
  line["steps"] = job.options.steps;
  for (const char* name : {"seconds", "tokens_per_second", "tokens_logical", "tokens_computed", "sharing_ratio",
                           "mfu_executed", "mfu_useful", "bubble", "exposed_communication"})
    line[name] = median(seen.at(name));
  return line;
}

void run(comm::World& world, const Options& options, config::Config config) {
  main_program::ConsoleLog console;
  NullLog quiet;
  LogSink& log = world.rank() == 0 ? static_cast<LogSink&>(console) : quiet;
  static_cast<MeshShape&>(config.parallel) = resolve_mesh(config.parallel, world.size());
  DeviceOption choice;
  choice.name = config.model.device;
  std::string device_name;
  const bool is_given = config.train.peak_tflops > 0;
  {
    const auto device = choice.open(world);
    device_name = device->description();
    if (!is_given) config.train.peak_tflops = gemm_tflops(world, *device, config.model.dtype, options.gemm_size);
  }
  config.train.max_steps = 1'000'000;  // the schedule's end is far away
  const bool has_preset = !config.model.preset.empty();
  const arch::Model shape = has_preset ? arch::preset_config(config.model.preset) : model_shape(config.model.path, 0);
  ScalingJob job{.world = world,
                 .options = options,
                 .config = config,
                 .model = shape,
                 .dataset = config::read_data(config, shape, config::MayWrite::kNo, config::Keep::kInMemory, log),
                 .head = {{"bench", "scaling"},
                          {"workload", options.workload},
                          {"np", world.size()},
                          {"nodes", count_nodes(world)},
                          {"mesh", to_string(config.parallel)},
                          {"device", device_name},
                          {"dtype", std::string(name_of(config.model.dtype))},
                          {"cores", main_program::usable_cores()},
                          {"date", main_program::date_and_time()},
                          {"peak_tflops", config.train.peak_tflops},
                          {"peak_from", is_given ? "config" : "gemm"}}};
  const std::vector<Line> before = world.rank() == 0 ? read_scaling(options.json) : std::vector<Line>();
  Table table(scaling_columns(), options.json, world.rank() == 0);
  for (const bool share : {true, false}) {
    if (!share && !options.with_unshared) continue;
    if (options.with_unshared) job.config.pack.share_prefix = share;
    trainer::Trainer trainer(world, job.config, log);
    for (const char* mode : {"weak", "strong"}) {
      if (options.mode != "both" && options.mode != mode) continue;
      Line line = measure(job, trainer, mode);
      set_efficiency(line, before);
      table.add(line);
    }
  }
}

void report(const Options& options) {
  check<DataError>(std::filesystem::exists(options.report), "--report ", options.report, ": there is no such file");
  std::vector<Line> lines = read_scaling(options.report);
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::pair(series_of(a), a["np"].get<int64_t>()) < std::pair(series_of(b), b["np"].get<int64_t>());
  });
  for (Line& line : lines) set_efficiency(line, lines);
  std::string series;
  for (const Line& line : lines) {
    if (series_of(line) != series) std::cout << series_of(line) << '\n' << title_line(scaling_columns()) << '\n';
    series = series_of(line);
    std::cout << value_line(scaling_columns(), line) << '\n';
  }
  if (!options.html.empty()) files::write(options.html, scaling_page(lines));
}

}  // namespace

Body prepare_scaling(const Arguments& arguments) {
  Options options;
  po::options_description all(
      "[mpirun -np N] fpdist_bench scaling CONFIG.yaml [--section.key value ...], or --report FILE");
  const auto add = adder(all);
  add("mode", options.mode, "weak | strong | both: train.groups_per_step groups a rank, or in all");
  all.add_options()("unshared", po::bool_switch(&options.with_unshared), "also without shared prefixes");
  add("steps", options.steps, "measured steps; medians are reported");
  add("warmup", options.warmup, "steps before them");
  add("workload", options.workload, "name of the curve (the config's file name)");
  add("gemm-size", options.gemm_size, "rows of the square GEMM that MFU is measured by (0: by device)");
  add("json", options.json, "file that gets one JSON line a result; efficiency is against its fewest ranks");
  add("report", options.report, "read such a file: print the table, and with");
  add("html", options.html, "write a page that draws it");
  Arguments rest;
  if (!parse(arguments, all, &rest)) return {};
  check<ConfigError>(options.html.empty() || !options.report.empty(), "--html needs --report FILE");
  if (!options.report.empty()) {
    check<ConfigError>(rest.empty(), "--report takes no config, but there is ", rest.empty() ? "" : rest[0]);
    files::Inputs inputs;
    inputs.add("--report", options.report);
    inputs.check_spared(options.html, "give --html another name");
    report(options);
    return {};
  }
  check<ConfigError>(options.mode == "weak" || options.mode == "strong" || options.mode == "both",
                     "--mode is weak, strong or both, not ", options.mode);
  check<ConfigError>(options.steps > 0 && options.warmup >= 0 && options.gemm_size >= 0,
                     "--steps must be 1 or more, --warmup and --gemm-size 0 or more");
  check<ConfigError>(!rest.empty(), "scaling needs a config with model and data; see --help");
  const config::CommandLine line = config::parse_command_line(rest);
  files::Inputs inputs = config::inputs_of(line.config);
  inputs.add("the config", line.file);
  inputs.check_spared(options.json, "give --json another name");
  const config::Config& config = line.config;
  if (options.workload.empty())
    for (const std::string& word : rest)
      if (word.ends_with(".yaml")) options.workload = std::filesystem::path(word).stem().string();
  return [options, config](comm::World& world) { run(world, options, config); };
}

}  // namespace fpdist::bench
