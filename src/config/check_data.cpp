#include "src/config/check_data.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "src/config/computed_groups.hpp"
#include "src/config/run_length.hpp"
#include "src/core/index.hpp"
#include "src/plan/fits.hpp"

namespace fpdist::config {
namespace {

/// Groups of which a number is too large.
struct TooLarge {
  std::optional<size_t> first;
  int64_t count = 0, largest = 0;

  void see(size_t group, int64_t number, int64_t most) {
    largest = std::max(largest, number);
    if (number <= most) return;
    if (!first) first = group;
    ++count;
  }
};

int64_t largest_id(const data::Group& group) {
  int64_t largest = -1;
  for (const data::Sample& sample : group.sample)
    for (const auto* ids : {&sample.token, &sample.target})
      for (const int32_t id : *ids) largest = std::max<int64_t>(largest, id);
  return largest;
}

int64_t longest_sample(const data::Group& group) {
  int64_t longest = 0;
  for (const data::Sample& sample : group.sample) longest = std::max(longest, sample.length());
  return longest;
}

/// What is asked of every group, held against `most`.
template <typename Ask>
TooLarge look_at_all(const data::Dataset& dataset, int64_t most, Ask ask) {
  TooLarge found;
  for (int64_t g = 0; g < dataset.size(); ++g)
    found.see(index(g), dataset.source ? ask(dataset.get(g)) : ask(dataset.group[index(g)]), most);
  return found;
}

data::Group first_of(const TooLarge& found, const data::Dataset& dataset) {
  return dataset.get(static_cast<int64_t>(*found.first));
}

int64_t rows_needed(const data::Group& group, const Settled& job, const plan::PlanningOptions& options, int64_t most) {
  return plan::pack_rows_needed(computed_groups({group}, job, 0).front(), options, most);
}

void check_pack_rows(const TooLarge& found, const data::Dataset& dataset, const Settled& job,
                     const plan::PlanningOptions& options) {
  if (!found.first) return;
  const int64_t most = job.config.pack.max_tokens;
  throw ConfigError(
      text(dataset.where(*found.first), ": the group needs ", rows_needed(first_of(found, dataset), job, options, 0),
           " rows in one pack, pack.max_tokens is ", most, "; of ", dataset.size(), " groups ", found.count,
           " do not fit: pack.max_tokens: ", found.largest, " holds all, or leave them out"));
}

/// Groups that are planned together, one behind the other.
struct Steps {
  data::Loader loader;
  int64_t count = 0;
  std::string_view name;  ///< of one
  bool are_trained = false;
};

Steps training_steps(const data::Dataset& dataset, const Config& config) {
  const data::Loader loader = data::make_loader(dataset, config.data, config.train.groups_per_step, config.train.seed);
  return {
      .loader = loader, .count = steps_of(config.train, loader.steps_per_epoch()), .name = "step", .are_trained = true};
}

Steps evaluation_steps(const data::Dataset& dataset, const Config& config) {
  const data::Loader loader(dataset.size(), config.train.groups_per_step, /*seed=*/0, /*shuffle=*/false);
  return {.loader = loader, .count = loader.steps_per_epoch(), .name = "evaluation batch"};
}

/// The first step that does not keep to pack.max_in_flight, and what the neediest needs.
void check_in_flight(const data::Dataset& dataset, const Settled& job, const Steps& steps,
                     const plan::PlanningOptions& options) {
  const data::Loader& loader = steps.loader;
  std::optional<int64_t> first;
  int64_t most = 0;
  for (int64_t step = 0; step < steps.count; ++step) {
    const int64_t needed = plan::in_flight_needed(
        computed_groups(data::pick_groups(dataset, loader.step(step)), job, steps.are_trained ? step + 1 : 0), options);
    if (needed > 0 && !first) first = step;
    most = std::max(most, needed);
  }
  if (!first) return;
  const std::vector<int64_t> groups = loader.step(*first);
  throw ConfigError(text("pack.max_in_flight is ", options.pack.max_in_flight, ": no packs of ", steps.name, " ",
                         *first + 1, " (", dataset.where(index(groups.front())),
                         groups.size() > 1 ? text(" and ", groups.size() - 1, " more") : "",
                         ") keep that few rows in flight: pack.max_in_flight: ", most, " is enough for every step"));
}

}  // namespace

void check_tokens(const data::Dataset& dataset, const arch::Model& model) {
  if (dataset.max_token_id >= model.vocab_size) {
    const TooLarge found = look_at_all(dataset, model.vocab_size - 1, largest_id);
    throw DataError(text(dataset.where(*found.first), ": the row holds token id ", largest_id(first_of(found, dataset)),
                         ", the model's vocabulary has ", model.vocab_size, " tokens; ", found.count,
                         " rows hold such ids, ", found.largest,
                         " the largest: use the tokenizer that the model was made with"));
  }
  const int64_t positions = model.positions();
  const TooLarge found = look_at_all(dataset, positions, longest_sample);
  if (!found.first) return;
  throw DataError(text(dataset.where(*found.first), ": a sample of ", longest_sample(first_of(found, dataset)),
                       " tokens, the model has positions for ", positions,
                       " (max_position_embeddings in its config.json); ", found.count, " rows have longer ones, ",
                       found.largest, " tokens the longest: data.max_length: ", positions,
                       " cuts rows of text, rows of token ids are yours to cut"));
}

namespace {

void check_packs(const data::Dataset& dataset, const Settled& job,
                 Steps (*steps)(const data::Dataset&, const Config&)) {
  const Config& config = job.config;
  const plan::PlanningOptions options{.atomic = loss::spec_of(config.method, config.loss).atomic(),
                                      .parallel = config.parallel,
                                      .pack = config.pack,
                                      .costs = job.costs};
  // Whole groups are packed where that is cheaper, but all that must fit is what stays together.
  const int64_t most = config.pack.max_tokens;
  const TooLarge rows =
      look_at_all(dataset, most, [&](const data::Group& group) { return rows_needed(group, job, options, most); });
  check_pack_rows(rows, dataset, job, options);
  if (!plan::always_keeps_in_flight(rows.largest, options))
    check_in_flight(dataset, job, steps(dataset, config), options);
}

}  // namespace

void check_packs(const data::Dataset& dataset, const Settled& job) { check_packs(dataset, job, training_steps); }
void check_evaluation_packs(const data::Dataset& dataset, const Settled& job) {
  check_packs(dataset, job, evaluation_steps);
}

}  // namespace fpdist::config
