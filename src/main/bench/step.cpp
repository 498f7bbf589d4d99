// fpdist_bench step: forward and backward of one GRPO group on a model shape with random weights, every shared token
// once against every sample for itself: what sharing buys of what it could. Both arms in turn in every round; layouts
// are made before. `bound`: floating point operations unshared / shared of linear layers and attention; with the head,
// which sharing does not touch, `bound_with_head`. Beside the clock's time the processor's own, of the process, and
// `others`: the part of the processors that other processes used meanwhile.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/bench/bench.hpp"
#include "src/main/bench/cpu_time.hpp"
#include "src/main/bench/model_shape.hpp"
#include "src/main/bench/peak_memory.hpp"
#include "src/main/bench/step_model.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;

struct Options {
  DeviceOption device;
  DTypeChoice dtype;
  std::string model = "qwen2.5-7b", json;
  std::vector<std::string> grid;
  int64_t layers = 0, rounds = 5, max_tokens = 16384, unshared_tokens = 0, threads = 0, lora = 0;
  bool checkpointing = false;
};

struct Arm {
  StepModel::Pass pass;
  std::vector<double> seconds, cpu_seconds;
  int64_t peak_bytes = 0;
};

void time_round(StepModel& model, comm::Device& device, Arm& arm, bool counts) {
  reset_peak_memory(device);
  const double cpu = process_cpu_seconds();
  device.mark();
  model.run(arm.pass);
  device.mark();
  const double seconds = device.seconds().back();
  if (!counts) return;
  arm.seconds.push_back(seconds);
  arm.cpu_seconds.push_back(process_cpu_seconds() - cpu);
  arm.peak_bytes = std::max(arm.peak_bytes, peak_memory(device));
}

/// The tree once more in every round, on a model that trains an adapter alone.
class AdaptedArm {
 public:
  AdaptedArm(StepModel& model, comm::Device& device, const data::Group& group, int64_t max_tokens)
      : model_(model),
        device_(device),
        arm_{.pass = model.make_pass(group, true, max_tokens), .seconds = {}, .cpu_seconds = {}} {}
  void time(const Arm& whole, bool counts) {
    time_round(model_, device_, arm_, counts);
    if (!counts) return;
    of_whole_.push_back(arm_.seconds.back() / whole.seconds.back());
    cpu_of_whole_.push_back(arm_.cpu_seconds.back() / whole.cpu_seconds.back());
  }
  void report(nlohmann::ordered_json& line) const {
    line["lora_seconds"] = median(arm_.seconds);
    line["lora_of_whole"] = median(of_whole_), line["lora_of_whole_cpu"] = median(cpu_of_whole_);
    line["lora_peak_bytes"] = arm_.peak_bytes;
  }

 private:
  StepModel& model_;
  comm::Device& device_;
  Arm arm_;
  std::vector<double> of_whole_, cpu_of_whole_;
};

nlohmann::ordered_json measure(StepModel& model, StepModel* adapted, comm::Device& device, const StepCell& cell,
                               const arch::Model& config, const Options& options) {
  const data::Group group = random_group(cell, config.vocab_size);
  // The tree is one pack; without sharing a pack holds at least one sample.
  const int64_t tree_rows = cell.prompt + cell.group * cell.completion, sample_rows = cell.prompt + cell.completion;
  const int64_t unshared_rows = options.unshared_tokens > 0 ? options.unshared_tokens : options.max_tokens;
  Arm shared{
      .pass = model.make_pass(group, true, std::max(options.max_tokens, tree_rows)), .seconds = {}, .cpu_seconds = {}};
  Arm unshared{
      .pass = model.make_pass(group, false, std::max(unshared_rows, sample_rows)), .seconds = {}, .cpu_seconds = {}};
  std::optional<AdaptedArm> lora;
  if (adapted != nullptr) lora.emplace(*adapted, device, group, std::max(options.max_tokens, tree_rows));
  std::vector<double> speedup;
  const CpuUse use;
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first is a warm-up
    time_round(model, device, shared, round >= 0);
    if (lora) lora->time(shared, round >= 0);
    time_round(model, device, unshared, round >= 0);
    if (round >= 0) speedup.push_back(unshared.seconds.back() / shared.seconds.back());
  }
  const double seconds = median(shared.seconds), seconds_unshared = median(unshared.seconds);
  const auto logical = static_cast<double>(shared.pass.totals.tokens_logical);
  const auto work = [&](bool share, bool head) { return operations(config, group, share, head); };
  const double bound = work(false, false) / work(true, false);
  nlohmann::ordered_json line{{"prompt", cell.prompt},
                              {"completion", cell.completion},
                              {"group", cell.group},
                              {"threads", at::get_num_threads()},
                              {"tokens_logical", shared.pass.totals.tokens_logical},
                              {"tokens_computed", shared.pass.totals.tokens_computed},
                              {"shared_seconds", seconds},
                              {"unshared_seconds", seconds_unshared},
                              {"shared_cpu_seconds", median(shared.cpu_seconds)},
                              {"unshared_cpu_seconds", median(unshared.cpu_seconds)},
                              {"others_share", use.since().others},
                              {"speedup", median(speedup)},
                              {"bound", bound},
                              {"of_bound", median(speedup) / bound},
                              {"bound_with_head", work(false, true) / work(true, true)},
                              {"shared_tokens_per_second", logical / seconds},
                              {"unshared_tokens_per_second", logical / seconds_unshared},
                              {"shared_tflops", work(true, true) / seconds * 1e-12},
                              {"unshared_tflops", work(false, true) / seconds_unshared * 1e-12},
                              {"shared_peak_bytes", shared.peak_bytes},
                              {"unshared_peak_bytes", unshared.peak_bytes},
                              {"shared_peak_gib", in_gib(shared.peak_bytes)},
                              {"unshared_peak_gib", in_gib(unshared.peak_bytes)}};
  if (lora) lora->report(line);
  return line;
}

void run(comm::World& world, const Options& options, const arch::Model& config, const std::vector<StepCell>& cells) {
  check<ConfigError>(world.size() == 1, "step measures one rank: start it without mpirun");
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  const at::ScalarType dtype = options.dtype.on(*device);
  StepModel model(config, *device, {.dtype = dtype, .gradient_checkpointing = options.checkpointing});
  std::optional<StepModel> adapted;
  if (options.lora > 0) {
    arch::Model with = config;
    arch::AdapterOptions asked;
    asked.type = "lora", asked.r = options.lora, asked.target_modules = {"all-linear"};
    with.adapter = arch::adapter_of(config, Head::kLanguageModel, asked);
    adapted.emplace(with, *device,
                    model::TransformerOptions{.dtype = dtype, .gradient_checkpointing = options.checkpointing});
  }
  std::vector<Table::TableColumn> columns{{"prompt", "P", 7},
                                          {"completion", "R", 7},
                                          {"group", "G", 4},
                                          {"shared_seconds", "shared s", 11, 4},
                                          {"unshared_seconds", "unshared s", 12, 4},
                                          {"shared_cpu_seconds", "CPU s", 9, 4},
                                          {"others_share", "others", 8},
                                          {"speedup", "speedup", 9},
                                          {"bound", "bound", 8},
                                          {"of_bound", "of it", 8, 3},
                                          {"bound_with_head", "with head", 11},
                                          {"shared_tokens_per_second", "tokens/s", 12, 0},
                                          {"unshared_tokens_per_second", "unshared", 12, 0},
                                          {"shared_peak_gib", "peak GiB", 10},
                                          {"unshared_peak_gib", "unshared", 10}};
  if (adapted) columns.push_back({"lora_of_whole", "LoRA/full", 11, 3});
  if (adapted) columns.push_back({"lora_of_whole_cpu", "of CPU s", 10, 3});
  Table table(columns, options.json, world.rank() == 0);
  for (const StepCell& cell : cells) {
    nlohmann::ordered_json line = {{"bench", "step"},         {"device", device->description()},
                                   {"model", options.model},  {"layers", config.layer_count()},
                                   {"dtype", name_of(dtype)}, {"gradient_checkpointing", options.checkpointing}};
    line.update(measure(model, adapted ? &*adapted : nullptr, *device, cell, config, options));
    table.add(line);
  }
}

}  // namespace

Body prepare_step(const Arguments& arguments) {
  Options options;
  po::options_description all("fpdist_bench step");
  options.device.describe(all);
  const auto add = adder(all);
  add("model", options.model, "qwen2.5-7b, qwen2.5-0.5b, llama-3-8b, small or a config.json");
  add("layers", options.layers, "keep so many layers (0: all)");
  all.add_options()("grid", po::value(&options.grid)->multitoken(),
                    "P,R,G ...: prompt tokens, completion tokens, completions (4096,1024,8 4096,1024,2 1024,1024,2 "
                    "16384,1024,2)");
  options.dtype.describe(all);
  add("rounds", options.rounds, "rounds of both arms after a warm-up; medians are reported");
  add("max-tokens", options.max_tokens, "most rows in a pack; a group's tree, or a sample, travels whole all the same");
  add("unshared-tokens", options.unshared_tokens, "the same without sharing (0: as --max-tokens)");
  add("threads", options.threads, "CPU threads (0: one a core)");
  add("lora", options.lora, "time the tree also where adapters of this rank beside all linears are trained alone");
  all.add_options()("gradient-checkpointing", po::bool_switch(&options.checkpointing), "recompute blocks in backward");
  add("json", options.json, "file that gets one JSON line a result");
  if (!parse(arguments, all)) return {};
  check_spared(options.model, options.json);
  check<ConfigError>(
      options.rounds > 0 && options.max_tokens > 0 && options.layers >= 0 && options.unshared_tokens >= 0 &&
          options.threads >= 0 && options.lora >= 0,
      "--rounds and --max-tokens must be 1 or more, --layers, --unshared-tokens, --threads and --lora 0 or more");
  options.dtype.check();
  if (options.grid.empty()) options.grid = {"4096,1024,8", "4096,1024,2", "1024,1024,2", "16384,1024,2"};
  std::vector<StepCell> cells;
  for (const std::string& given : options.grid) {
    const std::vector<int64_t> numbers = numbers_of(given, "grid", 3);
    cells.push_back({numbers[0], numbers[1], numbers[2]});
  }
  const arch::Model config = model_shape(options.model, options.layers);
  return [options, config, cells](comm::World& world) { run(world, options, config, cells); };
}

}  // namespace fpdist::bench
