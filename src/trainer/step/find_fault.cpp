#include "src/trainer/step/find_fault.hpp"

#include <ATen/ATen.h>

#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/step/pack_run.hpp"

namespace fpdist::trainer {
namespace {

/// What a rank has found, and how early in the step it stands.
struct Found {
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  int64_t place = kNowhere;
  std::string words = {};
};

/// The words of the rank that found the earliest, the lowest of several; "" where none found anything. Collective.
std::string earliest(const Found& own, comm::Communicator& world) {
  at::Tensor first = at::full({1}, own.place, at::kLong);
  world.all_reduce(first, comm::ReduceOp::kMin);
  const auto place = first.item<int64_t>();
  if (place == Found::kNowhere) return "";
  at::Tensor speaker = at::full({1}, own.place == place ? world.rank() : world.size(), at::kLong);
  world.all_reduce(speaker, comm::ReduceOp::kMin);
  return comm::broadcast_text(own.words, static_cast<int>(speaker.item<int64_t>()), world);
}

/// Listens to the modules of a forward while it is there; keeps the one nearest to the tokens whose rows are not
/// finite.
class ModuleWatch {
 public:
  using Runs = std::vector<std::unique_ptr<model::Transformer>>;

  ModuleWatch() = default;
  ~ModuleWatch() {
    for (model::Transformer* run : listened_) run->set_output_hook({});
  }
  ModuleWatch(const ModuleWatch&) = delete;
  ModuleWatch& operator=(const ModuleWatch&) = delete;

  /// `runs` must outlive it. Modules count from `first` on.
  void listen(const Runs& runs, const std::string& whose, int64_t first) {
    for (const auto& run : runs) {
      listened_.push_back(run.get());
      run->set_output_hook([this, whose, first](int64_t place, std::string_view module, const at::Tensor& rows) {
        if (first + place >= found_.place || rows.isfinite().all().item<bool>()) return;
        found_ = {.place = first + place, .words = text(whose, module, where_)};
      });
    }
  }
  /// What is under way: " of pack 3, samples ...".
  void set_where(std::string where) { where_ = std::move(where); }
  const Found& found() const { return found_; }

 private:
  std::vector<model::Transformer*> listened_;
  std::string where_;
  Found found_;
};

/// The first module whose rows are not finite, the policy's before the reference's; "" where all are. Collective.
std::string first_module(const StepParts& parts, const PlannedStep& planned) {
  const Job& job = parts.job;
  const comm::Mesh& mesh = job.mesh;
  ModuleWatch watch;
  watch.listen(parts.weights.runs(), "", 0);
  watch.listen(parts.reference.runs(), "the reference's ", job.model.layer_count() + 2);
  PackRun run(parts, planned, RunUntil::kLosses);
  parallel::execute(run.ops(), static_cast<int>(parts.weights.runs().size()), run,
                    {mesh.pp(), mesh.pp_gradient(), *job.device}, [&](size_t i) {
                      run.before(i);
                      watch.set_where(text(" of pack ", run.ops()[i].pack, " on rank ", job.world.rank()));
                    });
  return earliest(watch.found(), mesh.world());
}

/// The first loss that is not finite, else the first parameter whose gradient here is not.
Found own_fault(const StepParts& parts, const StepResults& results) {
  if (std::string words = bad_loss(results, parts.job); !words.empty()) return {.place = 0, .words = std::move(words)};
  for (const GradientPart& part : parts.weights.gradients())
    if (!part.value.isfinite().all().item<bool>()) {
      const auto number = static_cast<int64_t>(part.parameter);
      return {.place = number + 1,
              .words = text("the gradient of ", parts.weights.all()[part.parameter]->name, " is not finite on rank ",
                            parts.job.world.rank())};
    }
  return {};
}

}  // namespace

std::string describe_fault(const StepParts& parts, const PlannedStep& planned, const StepResults& results) {
  const std::string fault = earliest(own_fault(parts, results), parts.job.mesh.world());
  const std::string module = first_module(parts, planned);
  return text(planned.name, ": ", fault.empty() ? "the sum of the gradients' squares overflows" : fault,
              module.empty() ? "; the rows of every layer are finite"
                             : text("; the first rows that are not finite come out of ", module));
}

}  // namespace fpdist::trainer
