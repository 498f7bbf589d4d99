#include "src/main/plan_config.hpp"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>

#include "fpdist/config/config.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/model/config.hpp"
#include "fpdist/plan/costs_file.hpp"
#include "fpdist/plan/dispatch.hpp"
#include "fpdist/plan/stage_layers.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::main_program {
namespace {

class Warnings final : public LogSink {
 public:
  void write(LogLevel level, std::string_view line) override {
    if (level != LogLevel::kInfo) std::cerr << "warning: " << line << '\n';
  }
};

model::ModelConfig read_model(const model::ModelOptions& options) {
  if (options.path.empty()) return model::preset_config(options.preset);
  const std::string path = options.path + "/config.json";
  std::ifstream file(path, std::ios::binary);
  check<ModelFileError>(file.is_open(), path, ": cannot open the file: model.path wants a Hugging Face directory");
  std::ostringstream all;
  all << file.rdbuf();
  return model::parse_model_config(all.str(), path);
}

/// The mesh in full and the layers that the trainer gives every run: a layer's work on a row against the head's.
plan::ParallelOptions settled(const trainer::Config& config, const model::ModelConfig& model) {
  plan::ParallelOptions parallel = config.parallel;
  for (int* axis : {&parallel.dp, &parallel.pp, &parallel.cp, &parallel.tp}) *axis = std::max(1, *axis);
  const plan::StageCosts flops = plan::stage_costs(model.shape());
  const int64_t head = config.method == Method::kReward ? 0 : flops.per_edge;
  parallel.layers = plan::stage_layers(
      {.layers = model.num_hidden_layers, .layer = flops.per_row, .embedding = 0, .head = head}, parallel);
  return parallel;
}

plan::ModelBytes bytes_of(const trainer::Config& config, const model::ModelConfig& model) {
  const DType dtype = config.model.dtype;
  plan::ModelBytes bytes;
  bytes.shape = model.shape();
  bytes.value = dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
  bytes.sum = dtype == DType::kFloat64 ? 8 : 4;
  bytes.recompute = config.model.gradient_checkpointing;
  const bool has_kl = config.method == Method::kGrpo && loss::resolved(config.method, config.loss).beta != 0;
  bytes.has_reference = has_kl || (config.method == Method::kDpo && !config.loss.precompute_ref_log_probs);
  bytes.ties_embedding = model.tie_word_embeddings;
  return bytes;
}

/// Bytes between context-parallel ranks, from the very plans that the trainer makes for each pack.
int64_t context_traffic(const std::vector<data::Group>& groups, const plan::StepPlan& step,
                        const plan::ParallelOptions& parallel, const plan::ModelBytes& model, bool share) {
  if (parallel.cp == 1) return 0;
  const plan::CpHeads heads{std::max<int64_t>(1, model.shape.heads / parallel.tp),
                            std::max<int64_t>(1, model.shape.kv_heads / parallel.tp), model.shape.head_dim};
  const plan::CpCosts costs{.key_bytes = 2 * heads.key * heads.dim * model.value,
                            .head_bytes = 2 * (heads.query + heads.key) * heads.dim * model.value,
                            .max_ulysses = static_cast<int>(heads.key)};
  int64_t elements = 0;
  for (const auto& packs : step.replica)
    for (const plan::PackPlan& pack : packs) {
      const prefix::TreeLayout layout = plan::lay_out(groups, pack, share);
      for (const plan::CpPlan& slice : plan::plan_context_slices(layout.node, pack.slice_end, parallel, costs)) {
        const plan::CpTraffic traffic = plan::predict_traffic(slice, heads);
        for (size_t rank = 0; rank < slice.rank_rows.size(); ++rank)
          elements += traffic.forward_sent(rank) + traffic.backward_sent(rank);
      }
    }
  return elements * model.shape.layers * parallel.tp * model.value;
}

}  // namespace

std::vector<PlanRequest> read_config(const ConfigRequest& wanted) {
  const config::CommandLine line = config::parse_command_line(wanted.arguments);
  const trainer::Config& config = line.config;
  const model::ModelConfig model = read_model(config.model);
  const plan::StageCosts costs = plan::costs_of_model(model.shape(), config.model.gradient_checkpointing,
                                                      wanted.costs.empty() ? config.plan.costs : wanted.costs);
  const plan::ParallelOptions parallel = settled(config, model);
  Warnings log;
  const data::Dataset dataset = data::read_dataset(config.data, config.method, *data::make_byte_tokenizer(), log);
  const data::Loader loader(static_cast<int64_t>(dataset.group.size()), config.train.groups_per_step, config.train.seed,
                            config.data.shuffle);
  std::vector<PlanRequest> requests;
  for (int64_t step = 0; step < std::min(wanted.steps, config.train.max_steps); ++step) {
    std::vector<data::Group> groups;
    for (const int64_t id : loader.step(step)) groups.push_back(dataset.group[static_cast<size_t>(id)]);
    const plan::StepPlan plan = plan::make_step_plan(groups, config.method, parallel, costs, config.pack);
    plan::StepTree tree = plan::make_step_tree(groups, config.pack.share_prefix);
    PlanRequest& request = requests.emplace_back();
    request.costs = costs;
    request.options = plan::planner_options(config.method, parallel, config.pack);
    request.job = JobModel{.bytes = bytes_of(config, model), .context_bytes = 0, .hash = plan.hash, .sample = {}};
    request.job->context_bytes = context_traffic(groups, plan, parallel, request.job->bytes, config.pack.share_prefix);
    for (const plan::MemberRef& member : tree.member)
      request.job->sample.push_back({groups[static_cast<size_t>(member.group)].id, member.index});
    request.tree = std::move(tree.tree);
  }
  return requests;
}

}  // namespace fpdist::main_program
