#pragma once
// trainer (private): Job, what a training job is. Made once; every part of the trainer reads it, nobody writes it, but
// for the run's length, which may be known only with the data.

#include <ATen/core/Tensor.h>

#include <memory>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/comm/world.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/log.hpp"

namespace fpdist::trainer {

using config::Config;

at::ScalarType scalar_type(DType dtype);

/// What the weights of its directory say of a model that config.json does not: a head of its own that they hold beside
/// a tied embedding unties it. `log` hears of that, and of weights that the model has no place for.
void fit_to_weights(arch::Model& model, const checkpoint::HfDirectory& directory, Head head, LogSink& log);

struct Job {
  /// Collective over the world. `given`: where to compute; null: what model.device says. `log` and the world must
  /// outlive it. Throws ModelFileError where the model's files are missing or do not fit together, ConfigError as
  /// config::settle does and where there is no such device, and either where ranks differ (agreement/same_job.hpp).
  Job(comm::World& world, Config config, LogSink& log, std::unique_ptr<comm::Device> given = nullptr);
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Of weights and activations, and of all that adds up: masters, main grads, losses.
  at::ScalarType dtype() const { return scalar_type(config.model.dtype); }
  at::ScalarType sum_dtype() const;
  /// Of the weights that are trained, which an adapter may have wider than the model.
  at::ScalarType trained_dtype() const { return model.adapter.is_float32 ? sum_dtype() : dtype(); }
  at::TensorOptions tensor_options(at::ScalarType dtype) const {
    return at::TensorOptions(dtype).device(device->where());
  }

  comm::World& world;
  LogSink& log;
  const std::unique_ptr<comm::Device> device;
  /// model.device too: what auto has come to. train.max_steps may be 0 until the data are known (Trainer).
  config::Settled settled;
  const Config& config = settled.config;
  const arch::Model& model = settled.model;
  const comm::Mesh mesh;

 private:
  Job(comm::World& world, config::Settled settled, LogSink& log, std::unique_ptr<comm::Device> given);
};

}  // namespace fpdist::trainer
