#include "src/trainer/step/check_groups.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

bool is_weight(double weight) { return weight >= 0 && std::isfinite(weight); }

/// A sample of the step and what is wrong with it.
class SampleCheck {
 public:
  SampleCheck(size_t group, size_t sample, const data::Sample& of, const arch::Model& model)
      : group_(group), sample_(sample), of_(of), model_(model) {}

  void run() const {
    const size_t length = of_.token.size();
    unless(of_.target.size() == length, "target", text("has ", of_.target.size(), " entries, token has ", length));
    unless(of_.old_logp.empty() || of_.old_logp.size() == length, "old_logp",
           text("has ", of_.old_logp.size(), " entries, token has ", length, ": give one a token, or none"));
    unless(of_.ref_logp.empty() || of_.ref_logp.size() == length, "ref_logp",
           text("has ", of_.ref_logp.size(), " entries, token has ", length, ": give one a token, or none"));
    unless(of_.weight.empty() || of_.weight.size() == length, "weight",
           text("has ", of_.weight.size(), " entries, token has ", length, ": give one a token, or none"));
    unless(std::all_of(of_.weight.begin(), of_.weight.end(), is_weight), "weight",
           "holds what is negative or no number: weights are 0 or more");
    unless(of_.prompt_length >= 0 && static_cast<size_t>(of_.prompt_length) <= length, "prompt_length",
           text("is ", of_.prompt_length, " of ", length, " tokens"));
    unless(of_.prefix_length >= 0 && int64_t{of_.prefix_length} + of_.prompt_length <= of_.length(), "prefix_length",
           text("is ", of_.prefix_length, " of ", of_.length() - of_.prompt_length, " tokens behind the prompt"));
    const int64_t positions = model_.positions();
    unless(of_.length() <= positions, "token",
           text("has ", length, " entries, the model has positions for ", positions, " (max_position_embeddings)"));
    check_ids("token", of_.token, false);
    check_ids("target", of_.target, true);
  }

 private:
  void unless(bool good, const char* field, const std::string& what) const {
    check<DataError>(good, "group ", group_, " of the step, sample ", sample_, ": ", field, " ", what);
  }
  void check_ids(const char* field, const std::vector<int32_t>& ids, bool may_ignore) const {
    const auto wrong = std::find_if(ids.begin(), ids.end(), [&](int32_t id) {
      return (id < 0 && !(may_ignore && id == data::kIgnore)) || id >= model_.vocab_size;
    });
    if (wrong == ids.end()) return;
    unless(false, field,
           text("holds ", *wrong, " at ", wrong - ids.begin(), ", the model's vocabulary has ", model_.vocab_size,
                " tokens", may_ignore ? text("; ", data::kIgnore, " is no target") : ""));
  }

  size_t group_, sample_;
  const data::Sample& of_;
  const arch::Model& model_;
};

}  // namespace

void check_groups(std::span<const data::Group> groups, const arch::Model& model, loss::GroupShape shape,
                  const loss::Needs& needs) {
  for (size_t g = 0; g < groups.size(); ++g) {
    const std::vector<data::Sample>& samples = groups[g].sample;
    check<DataError>(!samples.empty(), "group ", g, " of the step has no samples");
    check<DataError>(shape != loss::GroupShape::kPair || samples.size() == 2, "group ", g, " of the step has ",
                     samples.size(), " samples: this loss compares two, the chosen one first, the rejected one second");
    check<DataError>(is_weight(groups[g].weight.value_or(1)), "group ", g, " of the step: weight is ",
                     groups[g].weight.value_or(1), ": weights are 0 or more");
    for (size_t s = 0; s < samples.size(); ++s) {
      const double verdict = samples[s].reward.value_or(-1);
      check<DataError>(!needs.wanted || verdict == 0 || verdict == 1, "group ", g, " of the step, sample ", s,
                       ": this loss needs a reward of 1 (wanted) or 0 (unwanted)");
      check<DataError>(needs.prefix || samples[s].prefix_length == 0, "group ", g, " of the step, sample ", s,
                       ": its first ", samples[s].prefix_length, " tokens are a demonstration's (prefix_length), and ",
                       "this loss takes them for its own: loss.prefix_advantage: dr_grpo, or leave prefix_length out");
      const std::vector<int32_t>& target = samples[s].target;
      check<DataError>(
          needs.head != Head::kTokenClass ||
              std::all_of(target.begin(), target.end(),
                          [](int32_t label) { return label == data::kIgnore || label == 0 || label == 1; }),
          "group ", g, " of the step, sample ", s, ": targets are classes here, 0 or 1, ", data::kIgnore,
          " where nothing is judged");
      const bool compares = shape == loss::GroupShape::kPair || needs.wanted;
      check<DataError>(!compares || samples[s].weight.empty(), "group ", g, " of the step, sample ", s,
                       ": weight is of tokens, and this loss compares whole answers",
                       needs.wanted ? ": leave it out" : ": give the group a weight");
      SampleCheck(g, s, samples[s], model).run();
    }
  }
}

}  // namespace fpdist::trainer
