#include "src/trainer/saving/checkpoint_folder.hpp"

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/trainer/weights/weight_state.hpp"

namespace fpdist::trainer {
namespace {

std::string input_in(const std::string& folder, const files::Inputs& inputs) {
  for (const std::string& name : checkpoint::files_of_model(folder)) {
    const std::string file = folder + "/" + name;
    if (const std::string input = inputs.at(file); !input.empty())
      return text("saving to ", folder, " would write over ", file, ", and ", input,
                  " is that file: save to another folder");
  }
  return "";
}

}  // namespace

void refuse_inputs(const std::string& directory, const files::Inputs& inputs, const comm::World& world) {
  std::string refusal;
  if (world.rank() == 0) refusal = input_in(directory, inputs) + input_in(directory + ".tmp", inputs);
  refusal = comm::broadcast_text(refusal, 0, world.communicator());
  check<ConfigError>(refusal.empty(), refusal);
}

checkpoint::StateTexts texts_of(const TrainerState& state, const Job& job, Head head) {
  return {.state_json = to_json(state),
          .config_json = arch::export_config_json(job.model, {.dtype = name_of(job.config.model.dtype), .head = head}),
          .settings_yaml = config::to_yaml(job.settled),
          .companions_from = job.config.model.path};
}

std::string fault_together(const std::string& directory, const comm::World& world) {
  const comm::SlowWork slow(world.communicator(), text("reading ", directory));
  std::string fault;
  try {
    checkpoint::TrainingState(directory).verify(world.rank(), world.size());
  } catch (const ModelFileError& error) {
    fault = error.what();
  }
  for (std::string& one : comm::gather_texts(fault, world.communicator()))
    if (!one.empty()) return std::move(one);
  return "";
}

void check_is_of(const arch::Model& model, Head head, const checkpoint::TrainingState& stored,
                 const std::string& directory) {
  const arch::Model other = arch::parse_model_config(stored.config_json(), directory + "/config.json");
  const std::string differs = arch::difference(model, other);
  check<ModelFileError>(differs.empty(), directory, " is of another model: ", differs, " (this run's first)");
  check_has_weights(stored, arch::trained_parameters(model, head), directory);
}

}  // namespace fpdist::trainer
