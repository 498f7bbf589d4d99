// Who is in flight, without a model: every completion ends, in rows and numbers that were asked for.
#include "src/generate/admission.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/generate/spacing.hpp"
#include "src/generate/wave.hpp"

namespace fpdist::generate {
namespace {

using Tokens = std::vector<int32_t>;

/// A job with made-up lengths.
struct Job {
  SamplingOptions options;
  std::vector<Tokens> prompts;
  std::vector<const Tokens*> pointers;
  std::vector<Decoding> all;
  std::vector<int64_t> length;  // of each completion
  int64_t most_rows = 0;

  explicit Job(uint64_t seed) {
    Rng rng(seed);
    options.batch_invariant = seed % 3 == 0;
    options.num_generations = 1 + static_cast<int64_t>(rng.below(6));
    options.max_completion_length = 1 + static_cast<int64_t>(rng.below(200));
    options.max_num_seqs = 1 + static_cast<int64_t>(rng.below(40));
    prompts.resize(1 + rng.below(30));
    int64_t least = 0;
    for (Tokens& prompt : prompts) {
      for (uint64_t i = 0, many = 1 + rng.below(options.batch_invariant ? 200 : 30); i < many; ++i)
        prompt.push_back(static_cast<int32_t>(rng.below(2)));
      least = std::max(least, places_alone(prompt, options));
    }
    std::sort(prompts.begin(), prompts.end());
    most_rows = least + static_cast<int64_t>(rng.below(static_cast<uint64_t>(2 * least)));
    for (size_t p = 0; p < prompts.size(); ++p) {
      pointers.push_back(&prompts[p]);
      for (int64_t i = 0; i < options.num_generations; ++i) {
        all.emplace_back().prompt = p;
        // The first ones end early, so that what is foreseen falls short for the others.
        const auto most = static_cast<uint64_t>(options.max_completion_length);
        length.push_back(1 + static_cast<int64_t>(rng.below(2 * p > prompts.size() ? most : 1 + most / 8)));
      }
    }
  }

  /// The wave's places are within the limit, and whoever is in flight can have a token.
  void check_flight() const {
    int64_t flying = 0;
    std::vector<const Tokens*> tokens;
    std::vector<Leaf> leaves;
    size_t of = prompts.size();
    for (const Decoding& one : all) {
      if (!one.is_in_flight()) continue;
      ++flying;
      if (one.prompt != of) tokens.push_back(pointers[one.prompt]), of = one.prompt;
      leaves.push_back({tokens.size() - 1, one.room});
      ASSERT_TRUE(one.has_room());
      ASSERT_LE(one.room, options.max_completion_length);
    }
    ASSERT_LE(flying, std::max(options.max_num_seqs, options.num_generations));
    ASSERT_LE(make_wave(tokens, leaves, Sharing({}, options.batch_invariant), spacing_of(options)).places(), most_rows);
  }
};

TEST(Admission, EveryoneEndsWithinTheRowsThatAreThere) {
  int64_t left = 0, together = 0, waves = 0;
  for (uint64_t seed = 1; waves < 100000; ++seed) {
    SCOPED_TRACE(seed);
    Job job(seed);
    Admission admission(job.pointers, job.all, job.options, job.most_rows);
    size_t done = 0;
    for (int64_t step = 0; done < job.all.size(); ++step) {
      ASSERT_LT(step, 100000);
      if (admission.wants_change()) {
        left += admission.change(), ++waves;
        if (seed <= 300) job.check_flight();
        if (testing::Test::HasFatalFailure()) return;
      }
      int64_t flying = 0;
      for (size_t i = 0; i < job.all.size(); ++i) {
        Decoding& one = job.all[i];
        if (!one.is_in_flight()) continue;
        ++flying;
        one.completion.token.push_back(0);
        if (one.tokens() < job.length[i]) continue;
        one.standing = Decoding::Standing::kDone;
        ++done;
      }
      ASSERT_GT(flying, 0) << "nobody is in flight, and not all are done";
      together = std::max(together, flying);
    }
    EXPECT_FALSE(admission.wants_change());
    admission.change();
    for (const Decoding& one : job.all) ASSERT_EQ(one.leaf, -1) << "who is done holds no rows";
  }
  EXPECT_GT(left, 100) << "no job ran out of rows: the test's lengths hold nothing";
  EXPECT_GT(together, 20);
}

TEST(Admission, PromptsEnterWholeAndInOrder) {
  Job job(7);
  job.options.max_num_seqs = 2 * job.options.num_generations;
  job.most_rows = 1 << 20;
  Admission admission(job.pointers, job.all, job.options, job.most_rows);
  EXPECT_TRUE(admission.wants_change());
  admission.change();
  const auto begin = job.all.begin(), end = begin + job.options.max_num_seqs;
  const auto flies = [](const Decoding& one) { return one.is_in_flight(); };
  EXPECT_TRUE(std::all_of(begin, end, flies));
  EXPECT_TRUE(std::none_of(end, job.all.end(), flies));
  EXPECT_FALSE(admission.wants_change());
  std::for_each(begin, begin + job.options.num_generations - 1,
                [](Decoding& one) { one.completion.token = {1}, one.standing = Decoding::Standing::kDone; });
  EXPECT_FALSE(admission.wants_change()) << "a prompt enters with all its completions";
  job.all[index(job.options.num_generations) - 1].standing = Decoding::Standing::kDone;
  EXPECT_TRUE(admission.wants_change());
  admission.change();
  EXPECT_TRUE(std::all_of(begin + job.options.num_generations, end + job.options.num_generations, flies));
}

}  // namespace
}  // namespace fpdist::generate
