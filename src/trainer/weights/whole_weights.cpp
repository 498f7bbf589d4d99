#include "src/trainer/weights/whole_weights.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/checkpoint/export_files.hpp"
#include "src/checkpoint/gather.hpp"
#include "src/comm/broadcast_text.hpp"

namespace fpdist::trainer {
namespace {

checkpoint::Gatherer gatherer_of(const Job& job, Weights& weights, WholeOf what) {
  const bool are_values = what == WholeOf::kValues;
  check(what != WholeOf::kGradients || weights.has_gradients(),
        "the last step's gradients are gone: an export of masters took their place");
  std::vector<checkpoint::TensorSpec> whole;
  for (auto& [name, shape] : arch::trained_parameters(job.model, weights.head()))
    whole.push_back({name, are_values ? job.trained_dtype() : job.sum_dtype(), shape});
  weights.settle();
  if (what == WholeOf::kMasters) weights.gather_masters();
  if (what == WholeOf::kGradients) weights.gather_gradients();
  std::vector<checkpoint::TensorSlice> own;
  const bool brings = job.mesh.at().dp == 0 && job.mesh.at().cp == 0;
  weights.visit([&](const TrainedWeight& weight) {
    if (!brings || !weight.sharding.counted) return;
    own.push_back({.name = weight.name,
                   .dim = std::max(0, weight.sharding.dim),
                   .begin = weight.sharding.begin,
                   .value = are_values ? weight.value : weight.gradient});
  });
  return {std::move(whole), std::move(own), job.mesh.world(), *job.device};
}

/// The first input that a save would write over; "" where there is none.
std::string input_in_the_way(const std::string& directory, const files::Inputs& inputs) {
  for (const std::string& file : checkpoint::files_in_the_way(checkpoint::without_slash(directory)))
    if (const std::string input = inputs.at(file); !input.empty())
      return text("saving to ", directory, " would write over ", file, ", and ", input,
                  " is that file: save to another folder");
  return "";
}

}  // namespace

std::map<std::string, at::Tensor> gather_whole(const Job& job, Weights& weights, WholeOf what) {
  checkpoint::Gatherer gatherer = gatherer_of(job, weights, what);
  std::map<std::string, at::Tensor> all;
  if (job.world.rank() != 0) return gatherer.give_all(), all;
  for (size_t t = 0; t < gatherer.whole().size(); ++t) all[gatherer.whole()[t].name] = gatherer.fetch(t);
  return all;
}

DType export_dtype(const Config& config) {
  for (const auto& [dtype, name] : kDTypes)
    if (name == config.train.final_dtype) return dtype;
  const bool widens = config.adapter.is_on() && config.model.dtype == DType::kBFloat16;
  return widens ? DType::kFloat32 : config.model.dtype;  // auto
}

void save_directory(const Job& job, Weights& weights, const std::string& directory, const SaveAs& as,
                    const files::Inputs& inputs) {
  const std::string refusal = comm::broadcast_text(job.world.rank() == 0 ? input_in_the_way(directory, inputs) : "", 0,
                                                   job.world.communicator());
  check<ConfigError>(refusal.empty(), refusal);
  const bool needs_masters = job.trained_dtype() == at::kBFloat16 && as.dtype != DType::kBFloat16;
  checkpoint::Gatherer gatherer = gatherer_of(job, weights, needs_masters ? WholeOf::kMasters : WholeOf::kValues);
  if (job.world.rank() == 0) {
    const comm::SlowWork slow(job.mesh.world(), text("saving ", directory));
    std::vector<checkpoint::TensorSpec> specs = gatherer.whole();
    for (checkpoint::TensorSpec& spec : specs) spec.dtype = scalar_type(as.dtype);
    checkpoint::ExportOptions options{.config_json = {}, .copy_from = job.config.model.path};
    if (job.model.adapter.is_there())
      options.adapter_json =
          arch::adapter_config_json(job.model, weights.head(), job.config.adapter, job.config.model.path);
    else
      options.config_json = arch::export_config_json(
          job.model, {.dtype = name_of(as.dtype), .head = weights.head(), .pad_token_id = as.pad_token_id});
    checkpoint::export_hf_directory(
        directory, specs, [&](size_t tensor) { return gatherer.fetch(tensor).to(specs[tensor].dtype); }, options);
  } else {
    gatherer.give_all();
  }
  job.world.communicator().barrier();
}

}  // namespace fpdist::trainer
