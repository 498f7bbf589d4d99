#include "src/trainer/agreement/same_groups.hpp"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <iostream>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/core/clock.hpp"
#include "src/data/fields.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

using Groups = std::vector<data::Group>;

/// Groups in which every field holds something.
Groups full_groups() {
  Groups groups = test::random_groups(Method::kGrpo, 6, 3);
  for (data::Group& group : groups) {
    group.margin = 0.5, group.weight = 2.0, group.prefix_context = {0.5, 0};
    for (data::Sample& sample : group.sample) {
      sample.weight.assign(sample.token.size(), 0.5);
      sample.ref_logp.assign(sample.token.size(), -1.5);
      sample.advantage = 0.25, sample.prefix_advantage = 0.75;
    }
  }
  return groups;
}

void change(bool& value) { value = !value; }
void change(int32_t& value) { ++value; }
void change(std::optional<double>& value) { value = value.value_or(0.0) + 1e-9; }
template <typename T>
void change(std::vector<T>& values) {
  values.back() += std::is_integral_v<T> ? T(1) : T(1e-9);
}

/// The same without one.
void take_away(bool& value) { value = !value; }
void take_away(int32_t& value) { value = -value - 1; }
void take_away(std::optional<double>& value) { value.reset(); }
template <typename T>
void take_away(std::vector<T>& values) {
  values.pop_back();
}

/// What all of `ranks` ranks say when the last one holds `other`; "accepted" where nothing is wrong.
std::string said(int ranks, const Groups& groups, const Groups& other) {
  std::mutex mutex;
  std::vector<std::string> all;
  comm::run_threads(ranks, [&](comm::World& world) {
    const std::string what = test::refusal<DataError>([&] {
      check_same_groups(
          world.rank() == ranks - 1 ? other : groups, [](size_t group) { return text("rows.jsonl:", group + 1); },
          world.communicator(), "they differ", "do something");
    });
    const std::lock_guard lock(mutex);
    all.push_back(what);
  });
  for (const std::string& what : all) EXPECT_EQ(what, all.front());
  return all.front();
}

TEST(SameGroups, EqualOnesAreAcceptedWhateverTheirIds) {
  Groups renumbered = full_groups();
  for (data::Group& group : renumbered) group.id += 100;
  for (const int ranks : {1, 2, 5}) EXPECT_EQ(said(ranks, full_groups(), renumbered), "accepted");
  EXPECT_EQ(said(2, {}, {}), "accepted");
}

TEST(SameGroups, EveryFieldOfEverySampleThatDiffersIsFoundAndNamed) {
  const Groups groups = full_groups();
  const auto expect_named = [&](const Groups& other, size_t group, const std::string& field) {
    const std::string what = said(3, groups, other);
    test::expect_words(what, {text("they differ; the first that differs is rows.jsonl:", group + 1, ":\n", field, ": "),
                              "on ranks 0-1, ", "on rank 2\ndo something"});
    EXPECT_EQ(std::count(what.begin(), what.end(), '\n'), 2) << "nothing else is named: " << what;
  };
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const bool takes : {false, true}) {
      std::vector<std::string> names;
      const auto note = [&](const char* name, const auto&) { names.push_back(name); };
      data::each_field_of_group(groups[g], note);
      const size_t of_group = names.size();
      data::each_field_of_sample(groups[g].sample[0], note);
      EXPECT_EQ(names, (std::vector<std::string>{"margin", "weight", "source", "prefix_context", "token", "target",
                                                 "prompt_length", "old_logp", "ref_logp", "reward", "advantage",
                                                 "truncated", "weight", "prefix_length", "prefix_advantage"}));
      for (size_t n = 0; n < names.size(); ++n) {
        Groups other = groups;
        const auto change_field = [&](const char* name, auto& field) {
          if (name == names[n]) takes ? take_away(field) : change(field);
        };
        const size_t s = groups[g].sample.size() - 1;
        if (n < of_group)
          data::each_field_of_group(other[g], change_field);
        else
          data::each_field_of_sample(other[g].sample[s], change_field);
        expect_named(other, g, n < of_group ? names[n] : text(names[n], " of sample ", s));
      }
    }
  }
}

TEST(SameGroups, SamplesAndGroupsThatAreMissingOrElsewhereAreFound) {
  const Groups groups = full_groups();
  Groups less = groups, fewer = groups, turned = groups;
  const auto large =
      std::find_if(groups.begin(), groups.end(), [](const auto& group) { return group.sample.size() > 1; });
  ASSERT_NE(large, groups.end());
  less[static_cast<size_t>(large - groups.begin())].sample.pop_back();
  test::expect_words(said(2, groups, less), {"\nsamples: ", "nothing on rank 1"});
  fewer.pop_back();
  EXPECT_EQ(said(2, groups, fewer), "they differ:\ngroups: 6 on rank 0, 5 on rank 1\ndo something");
  std::swap(turned[2], turned[4]);
  test::expect_words(said(2, groups, turned), {"the first that differs is rows.jsonl:3"});
}

TEST(SameGroups, AnotherOrderOfThemIsFound) {
  const std::string what = test::error_on_ranks<DataError>(3, [](comm::World& world) {
    check_same_order(data::Loader(20, 4, 7, true), world.communicator());
    check_same_order(data::Loader(20, 4, world.rank() == 1 ? 8 : 7, true), world.communicator());
  });
  test::expect_words(what, {"different orders", "on ranks 0 and 2, ", "on rank 1"});
  const std::string mixed = test::error_on_ranks<DataError>(2, [](comm::World& world) {
    const double times = world.rank() == 1 ? 2 : 1.5;
    check_same_order(data::Loader(4, 4, 7, true, {{{0, 1}, 1}, {{2, 3}, times}}), world.communicator());
  });
  test::expect_words(mixed, {"different orders", "on rank 1"});
}

TEST(SameGroups, AStepOfDifferentSamplesOfTheSameLengthsIsRefused) {
  Config config;
  config.method = Method::kGrpo;
  config.model.preset = "tiny";
  config.data.path = {"unused"};
  for (const bool is_ahead : {false, true}) {
    const std::string what = test::error_on_ranks<DataError>(2, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      const auto groups = std::make_shared<Groups>(test::random_groups(Method::kGrpo, 6, 3));
      if (world.rank() == 1) *(*groups)[2].sample[0].reward += 1;
      if (is_ahead) trainer.plan_ahead(groups);
      trainer.step(*groups);
    });
    test::expect_words(what, {"step 1: the ranks were given different samples", "group 2 of the step",
                              "\nreward of sample 0: ", "gather_groups"});
  }
}

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The promise is less than a second for 1 GB of JSON lines, on 8 ranks that each have read all of it. A sixteenth is
// held against a sixteenth, in the rank's own time: ranks share cores here.
TEST(SameGroups, AGigabyteIsComparedInLessThanASecond) {
  constexpr int kRanks = 8, kShare = 16;
  Rng rng(7);
  Groups groups;
  int64_t bytes = 0;  // as token rows: an id, a comma
  while (bytes < (int64_t{1} << 30) / kShare) {
    data::Group& group = groups.emplace_back();
    for (int s = 0; s < 2; ++s) {
      data::Sample& sample = group.sample.emplace_back();
      sample.token.resize(200 + rng.below(1200));
      for (int32_t& token : sample.token) token = static_cast<int32_t>(rng.below(32000));
      for (const int32_t token : sample.token) bytes += static_cast<int64_t>(std::to_string(token).size()) + 1;
      sample.target = sample.token;
    }
  }
  std::mutex mutex;
  double most = 0;
  const auto start = Clock::now();
  comm::run_threads(kRanks, [&](comm::World& world) {
    const double begun = thread_seconds();
    check_same_groups(
        groups, [](size_t) { return ""; }, world.communicator(), "", "");
    const std::lock_guard lock(mutex);
    most = std::max(most, thread_seconds() - begun);
  });
  std::cout << "a GiB of rows: " << kShare * most << " s of a rank's own time, " << kShare * seconds_since(start)
            << " s for " << kRanks << " ranks on this machine\n";
#ifdef NDEBUG
  EXPECT_LT(kShare * most, 1.0);
#endif
}

}  // namespace
}  // namespace fpdist::trainer
