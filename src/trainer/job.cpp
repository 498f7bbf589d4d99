#include "src/trainer/job.hpp"

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/ops/parameter.hpp"
#include "src/checkpoint/nf4_tensors.hpp"
#include "src/trainer/agreement/same_job.hpp"

namespace fpdist::trainer {
namespace {

constexpr size_t kMostNames = 1000;  // characters

/// A log for what rank 0 says for all.
class FirstRanksLog final : public LogSink {
 public:
  FirstRanksLog(const comm::World& world, LogSink& log) : log_(world.rank() == 0 ? &log : nullptr) {}
  void write(LogLevel level, std::string_view line) override {
    if (log_ != nullptr) log_->write(level, line);
  }

 private:
  LogSink* log_;
};

/// config::settle where the weights are there too; ModelFileError where they are missing or do not fit together.
config::Settled settle_with_weights(Config config, const comm::World& world, LogSink& log) {
  check_same_options(config, world.communicator());
  std::optional<checkpoint::HfDirectory> directory;
  if (!config.model.path.empty()) directory.emplace(config.model.path);
  config::Settled settled = config::settle(std::move(config), world.size());
  config::check_trained(settled);
  check_same_model(settled, world.communicator());
  FirstRanksLog first(world, log);
  if (directory)
    fit_to_weights(settled.model, *directory, loss::needs_of(settled.config.method, settled.config.loss).head, first);
  return settled;
}

/// Rank 0 says for all which device it is.
std::unique_ptr<comm::Device> open_device(const Config& config, const comm::World& world, LogSink& log) {
  FirstRanksLog first(world, log);
  return comm::open_device(config.model.device, world, config.comm, first);
}

config::Settled on_device(config::Settled settled, const comm::Device& device, comm::Communicator& world) {
  settled.config.model.device = device.where().is_cpu() ? "cpu" : "cuda";
  check_same_settled(settled, world);
  return settled;
}

}  // namespace

void fit_to_weights(arch::Model& model, const checkpoint::HfDirectory& directory, Head head, LogSink& log) {
  const bool has_head = head == Head::kLanguageModel;
  if (has_head && model.tie_word_embeddings && !checkpoint::ties_embedding(directory, model)) {
    model.tie_word_embeddings = false;
    log.warning(text(directory.config_path(), " ties the head to the embedding, but the weights hold both with other ",
                     "values: they are trained and exported as two, with tie_word_embeddings: false"));
  }
  std::vector<std::string> known{arch::kHeadWeight, arch::kScoreWeight,
                                 arch::kScoreBias};  // of other heads: nobody misses them
  for (const auto& [name, shape] : arch::parameters(model, head)) {
    known.push_back(name);
    if (arch::is_quantized(model, name))
      for (std::string& part : checkpoint::nf4_parts(name)) known.push_back(std::move(part));
  }
  std::string unread;
  for (const std::string& name : directory.names_besides(known))
    if (!name.ends_with("rotary_emb.inv_freq")) unread += text(unread.empty() ? "" : ", ", name);
  if (unread.size() > kMostNames) unread.replace(kMostNames, std::string::npos, ", ...");
  if (!unread.empty())
    log.warning(text(directory.config_path(),
                     " describes a model without these weights of its directory, which are not ",
                     "read and will not be exported: ", unread));
}

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
    : Job(world_, settle_with_weights(std::move(config_), world_, log_), log_, std::move(given)) {}

Job::Job(comm::World& world_, config::Settled settled_, LogSink& log_, std::unique_ptr<comm::Device> given)
    : world(world_),
      log(log_),
      device(given ? std::move(given) : open_device(settled_.config, world, log)),
      settled(on_device(std::move(settled_), *device, world.communicator())),
      mesh(world, config.parallel, device.get()) {}

at::ScalarType Job::sum_dtype() const { return ops::accumulate_dtype(dtype()); }

}  // namespace fpdist::trainer
