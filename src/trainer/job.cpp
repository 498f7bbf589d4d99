#include "src/trainer/job.hpp"

#include <stdexcept>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/ops/parameter.hpp"
#include "src/trainer/agreement/same_job.hpp"

namespace fpdist::trainer {
namespace {

/// config::settle where the weights are there too; ModelFileError where they are missing or do not fit together.
config::Settled settle_with_weights(Config config, const comm::World& world) {
  check_same_options(config, world.communicator());
  if (!config.model.path.empty()) (void)checkpoint::HfDirectory(config.model.path);
  config::Settled settled = config::settle(std::move(config), world.size());
  check_same_model(settled, world.communicator());
  return settled;
}

/// Rank 0 says for all which device it is.
std::unique_ptr<comm::Device> open_device(const Config& config, const comm::World& world, LogSink& log) {
  NullLog quiet;
  return comm::open_device(config.model.device, world, config.comm, world.rank() == 0 ? log : quiet);
}

config::Settled on_device(config::Settled settled, const comm::Device& device, comm::Communicator& world) {
  settled.config.model.device = device.where().is_cpu() ? "cpu" : "cuda";
  check_same_settled(settled, world);
  return settled;
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kFloat64:
      return at::kDouble;
  }
  throw std::logic_error("enum value without a scalar type");
}

Job::Job(comm::World& world_, Config config_, LogSink& log_, std::unique_ptr<comm::Device> given)
    : Job(world_, settle_with_weights(std::move(config_), world_), log_, std::move(given)) {}

Job::Job(comm::World& world_, config::Settled settled_, LogSink& log_, std::unique_ptr<comm::Device> given)
    : world(world_),
      log(log_),
      device(given ? std::move(given) : open_device(settled_.config, world, log)),
      settled(on_device(std::move(settled_), *device, world.communicator())),
      mesh(world, config.parallel, device.get()) {}

at::ScalarType Job::sum_dtype() const { return ops::accumulate_dtype(dtype()); }

}  // namespace fpdist::trainer
