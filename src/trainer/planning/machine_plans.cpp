#include "src/trainer/planning/machine_plans.hpp"

#include <ATen/ATen.h>

#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/core/integers.hpp"
#include "src/plan/plan_words.hpp"

namespace fpdist::plan {

template <typename Archive, SameButConst<Amount> Some>
void fields(Archive& archive, Some& amount) {
  archive(amount.rows, amount.pairs, amount.edges);
}

}  // namespace fpdist::plan

namespace fpdist::trainer {

template <typename Archive, SameButConst<Forecast> Some>
void fields(Archive& archive, Some& forecast) {
  archive(forecast.work, forecast.busy, forecast.makespan, forecast.peak_rows);
}

namespace {

std::vector<int64_t> words_of(const PlannedStep& planned) {
  IntegerWriter to;
  to(std::vector<char>(planned.refusal.begin(), planned.refusal.end()));
  if (planned.refusal.empty()) {
    plan::write_plan(planned.plan, to);
    to(planned.forecast);
    if (planned.mismatched) plan::write_plan(planned.mismatched->plan, to);
  }
  return to.words();
}

void read(std::span<const int64_t> words, const plan::ParallelOptions& parallel, PlannedStep& planned) {
  IntegerReader from(words);
  std::vector<char> refusal;
  from(refusal);
  planned.refusal.assign(refusal.begin(), refusal.end());
  if (!planned.refusal.empty()) return;
  planned.plan = plan::read_plan(from, parallel);
  from(planned.forecast);
  if (planned.mismatched) planned.mismatched->plan = plan::read_plan(from, parallel);
  check<CommError>(from.is_done(), planned.name, ": more was told of its plan than there is to a plan");
}

}  // namespace

bool MachinePlans::are_shared(std::span<const data::Group> groups) const {
  int64_t samples = 0;
  for (const data::Group& group : groups) samples += static_cast<int64_t>(group.sample.size());
  return job_.world.size() > 1 && samples >= from_;
}

void MachinePlans::share(PlannedStep& planned) {
  if (!machine_)
    machine_ = job_.world.communicator().split("machine", job_.world.first_local(), job_.world.local_rank());
  std::vector<int64_t> words;
  if (is_first()) words = words_of(planned);
  at::Tensor size = at::full({1}, static_cast<int64_t>(words.size()), at::kLong);
  machine_->broadcast(size, 0);
  words.resize(index(size.item<int64_t>()));
  at::Tensor told = at::from_blob(words.data(), {size.item<int64_t>()}, at::kLong);
  machine_->broadcast(told, 0);
  if (!is_first()) read(words, job_.config.parallel, planned);
  check<ConfigError>(planned.refusal.empty(), planned.refusal);
}

}  // namespace fpdist::trainer
