#include "src/trainer/step/step_files.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/data/rows/dump_rows.hpp"
#include "src/files/files.hpp"
#include "src/plan/costs/costs_file.hpp"

namespace fpdist::trainer {
namespace {

/// The settled configuration of a run of this step alone, from the files at `path` (step-12).
config::Settled alone(const Job& job, const PlannedStep& planned, int64_t groups, const std::string& path) {
  config::Settled one = job.settled;
  Config& config = one.config;
  const data::DataOptions defaults;
  config.data.path = {path + ".rows.jsonl"};
  config.data.eval_path.clear(), config.data.eval_fraction = 0;
  config.data.mixture.clear(), config.data.columns.clear();
  config.data.group_by = defaults.group_by, config.data.batching = defaults.batching;
  config.data.shuffle = false, config.data.cache_dir = "none";
  const trainer::TrainOptions& train = job.config.train;
  config.train = {.groups_per_step = groups,
                  .max_steps = 1,
                  .seed = train.seed,
                  .output_dir = path,
                  .final_dtype = train.final_dtype,
                  .peak_tflops = train.peak_tflops,
                  .comm_timeout_seconds = train.comm_timeout_seconds,
                  .slow_timeout_seconds = train.slow_timeout_seconds};
  config.pack = planned.pack;
  config.plan = {.costs = path + ".costs.yaml", .calibrate_steps = 0};
  return one;
}

/// The caller's groups with what the step learns of them, which is what was planned.
std::vector<data::Group> as_planned(std::span<const data::Group> groups, const PlannedStep& planned) {
  std::vector<data::Group> rows(groups.begin(), groups.end());
  for (size_t g = 0; g < rows.size(); ++g)
    for (size_t s = 0; s < rows[g].sample.size(); ++s) {
      data::Sample& row = rows[g].sample[s];
      const std::vector<int32_t>& target = planned.groups.all[g].sample[s].target;  // behind virtual tokens'
      row.target.assign(target.end() - row.length(), target.end());
    }
  return rows;
}

void write(const Job& job, const PlannedStep& planned, std::span<const data::Group> groups, const std::string& why,
           const std::string& path) {
  data::dump_rows(as_planned(groups, planned), job.config.method, path + ".rows.jsonl", job.config.data.sources);
  plan::write_costs(planned.costs, text("what ", planned.name, " was planned with"), path + ".costs.yaml");
  const auto count = static_cast<int64_t>(groups.size());
  files::write(path + ".yaml", config::to_yaml(alone(job, planned, count, path)));
  const nlohmann::ordered_json plan{
      {"step", planned.number}, {"why", why}, {"config", path + ".yaml"}, {"hash", planned.plan.hash}};
  files::write(path + ".plan.json", plan.dump(1) + "\n");
}

}  // namespace

std::string write_step_files(const Job& job, const PlannedStep& planned, std::span<const data::Group> groups,
                             const std::string& why, const std::string& folder, const files::Inputs& inputs,
                             LogSink& log) {
  if (folder.empty() || job.world.rank() != 0) return "";
  const std::string path =
      std::filesystem::absolute(text(folder, "/step-", planned.number)).lexically_normal().string();
  const comm::SlowWork slow(job.world.communicator(), text("writing ", path, ".rows.jsonl"));
  try {
    for (const char* end : {".rows.jsonl", ".costs.yaml", ".yaml", ".plan.json"})
      inputs.check_spared(path + end, "the step is not written down");
    write(job, planned, groups, why, path);
  } catch (const Error& error) {  // what became of the step is what the user must hear
    log.error(error.what());
    return "";
  }
  return text("fpdist_plan --replay ", path, ".plan.json plans the step again, fpdist_train ", path,
              ".yaml runs it alone, from the weights that the run began with or from --model.path");
}

}  // namespace fpdist::trainer
