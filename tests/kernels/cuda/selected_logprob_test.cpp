// selected_logprob's kernels on the PTX machine: right for rows of any length and any number of scores, on rows that
// stand apart; a gradient that reaches no row reads none; the same bits whatever the order of warps and blocks; what
// they move.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/selected_logprob/cuda/selected_logprob_kernel.hpp"
#include "tests/kernels/cuda/matrix.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

/// Ids that a kernel reads, or, unwritten, fills; from a sector's begin.
class Ids {
 public:
  explicit Ids(const std::vector<int64_t>& values, bool is_written = true)
      : held_(static_cast<int64_t*>(std::aligned_alloc(256, (values.size() * sizeof(int64_t) / 256 + 1) * 256)),
              std::free) {
    std::copy(values.begin(), values.end(), held_.get());
    launches().memory.add(held_.get(), values.size() * sizeof(int64_t), is_written);
  }
  int64_t* data() const { return held_.get(); }
  int64_t at(size_t i) const { return held_.get()[i]; }

 private:
  std::shared_ptr<int64_t> held_;
};

struct Layout {
  int64_t rows, vocabulary, scores;
  int64_t first_row = 0, gap = 0;
  float temperature = 1;
};
/// Less than a vector, parts of one, a short block, a long one that goes round; one row; rows without scores and with
/// many; more marks than there are; no scores.
const std::vector<Layout> kLayouts = {
    {1, 1, 1, 0, 3},           {3, 7, 5, 0, 1}, {5, 64, 9, 2},       {2, 130, 70, 0, 6}, {4, 2049, 3, 1, 7, 0.7f},
    {2, 5003, 40, 0, 5, 1.5f}, {1, 4096, 1},    {1, 65541, 5, 0, 3}, {6, 37, 0, 0, 3},   {3, 33, 400, 5, 7}};

std::vector<int64_t> random_ids(uint64_t seed, int64_t count, int64_t first, int64_t last) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int64_t> of(first, last);
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (int64_t& id : ids) id = of(random);
  return ids;
}
std::vector<int64_t> sorted(std::vector<int64_t> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

/// Rows of a larger whole: scores of rows before and behind are among them, targets without a column too.
struct Case {
  Layout at;
  int64_t all_rows;
  Matrix logits;
  std::vector<std::vector<float>> z;  ///< the logits, for after they are written over
  Ids row, target;
  Matrix logit, lse, entropy, best, grad_logp, grad_entropy;
  Ids argmax;
  explicit Case(const Layout& at)
      : at(at),
        all_rows(at.first_row + at.rows + 2),
        logits(Element::kFloat32, at.rows, at.vocabulary, 1, at.gap),
        row(sorted(random_ids(2, at.scores, 0, all_rows - 1))),
        target(random_ids(3, at.scores, -1, at.vocabulary - 1)),
        logit(Element::kFloat32, 1, at.scores),
        lse(Element::kFloat32, 1, all_rows),
        entropy(Element::kFloat32, 1, all_rows),
        best(Element::kFloat32, 1, all_rows),
        grad_logp(Element::kFloat32, 1, at.scores, 4),
        grad_entropy(Element::kFloat32, 1, all_rows, 5),
        argmax(std::vector<int64_t>(static_cast<size_t>(all_rows), -1), false) {
    for (int64_t r = 0; r < at.rows; ++r) {
      z.emplace_back();
      for (int64_t c = 0; c < at.vocabulary; ++c) {
        logits.set(r, c, 8 * logits.at(r, c));
        z.back().push_back(logits.at(r, c));
      }
    }
  }
  LogprobRows rows() const {
    return {at.first_row, at.rows,       at.vocabulary, logits.stride(),
            row.data(),   target.data(), at.scores,     1 / at.temperature};
  }
  static float* floats(const Matrix& matrix) { return static_cast<float*>(matrix.data()); }
  void forward(bool is_relative) {
    const LogprobArguments arguments{rows(),          floats(logits), floats(logit), floats(lse),
                                     floats(entropy), floats(best),   argmax.data(), is_relative};
    ASSERT_EQ(launch_selected_logprob(arguments, nullptr), cudaSuccess);
  }
  /// With the row sums of float64. Returns the gradient where it lies.
  Matrix backward(Element element, bool has_logp, bool has_entropy) {
    for (int64_t r = 0; r < at.rows; ++r) {
      lse.set(0, at.first_row + r, static_cast<float>(lse_of(r)));
      entropy.set(0, at.first_row + r, static_cast<float>(entropy_of(r)));
    }
    const LogprobBackwardArguments arguments{rows(),
                                             floats(logits),
                                             has_logp ? floats(grad_logp) : nullptr,
                                             has_entropy ? floats(grad_entropy) : nullptr,
                                             floats(lse),
                                             floats(entropy)};
    EXPECT_EQ(launch_selected_logprob_backward(arguments, element, nullptr), cudaSuccess);
    return logits.seen_as(element);
  }

  double scaled(int64_t r, int64_t c) const {
    return double{z[static_cast<size_t>(r)][static_cast<size_t>(c)]} / at.temperature;
  }
  double largest(int64_t r) const {
    return *std::max_element(z[static_cast<size_t>(r)].begin(), z[static_cast<size_t>(r)].end()) /
           double{at.temperature};
  }
  double lse_of(int64_t r) const {
    double sum = 0;
    const double most = largest(r);
    for (int64_t c = 0; c < at.vocabulary; ++c) sum += std::exp(scaled(r, c) - most);
    return most + std::log(sum);
  }
  double entropy_of(int64_t r) const {
    double sum = 0;
    const double lse_of_row = lse_of(r);
    for (int64_t c = 0; c < at.vocabulary; ++c) {
      const double log_p = scaled(r, c) - lse_of_row;
      sum -= std::exp(log_p) * log_p;
    }
    return sum;
  }
  bool is_here(size_t score) const { return row.at(score) >= at.first_row && row.at(score) < at.first_row + at.rows; }
  /// Of the logits, by row and column.
  std::vector<std::vector<double>> gradient(bool has_logp, bool has_entropy) const {
    std::vector<std::vector<double>> d;
    for (int64_t r = 0; r < at.rows; ++r) {
      double sum = 0;
      for (size_t s = 0; has_logp && s < static_cast<size_t>(at.scores); ++s)
        if (row.at(s) == at.first_row + r) sum += grad_logp.at(0, static_cast<int64_t>(s));
      const double of_entropy = has_entropy ? grad_entropy.at(0, at.first_row + r) : 0;
      const double lse_of_row = lse_of(r), entropy_of_row = entropy_of(r);
      d.emplace_back();
      for (int64_t c = 0; c < at.vocabulary; ++c) {
        const double log_p = scaled(r, c) - lse_of_row;
        d.back().push_back(-std::exp(log_p) * (sum + of_entropy * (log_p + entropy_of_row)) / at.temperature);
      }
    }
    for (size_t s = 0; has_logp && s < static_cast<size_t>(at.scores); ++s)
      if (is_here(s) && target.at(s) >= 0)
        d[static_cast<size_t>(row.at(s) - at.first_row)][static_cast<size_t>(target.at(s))] +=
            double{grad_logp.at(0, static_cast<int64_t>(s))} / at.temperature;
    return d;
  }
};

std::string name_of(const Layout& at) {
  return std::to_string(at.rows) + " x " + std::to_string(at.vocabulary) + ", " + std::to_string(at.scores) +
         " scores, gap " + std::to_string(at.gap);
}

TEST(SelectedLogprobKernel, RowsAreReducedAsByTheirFormulas) {
  for (const Layout& at : kLayouts)
    for (const bool is_relative : {false, true}) {
      SCOPED_TRACE(name_of(at));
      fresh_launches();
      Case one(at);
      one.forward(is_relative);
      for (int64_t r = 0; r < at.rows; ++r) {
        const auto& z = one.z[static_cast<size_t>(r)];
        const int64_t row = at.first_row + r;
        EXPECT_NEAR(one.lse.at(0, row), one.lse_of(r), 1e-5);
        EXPECT_NEAR(one.entropy.at(0, row), one.entropy_of(r), 1e-5);
        EXPECT_NEAR(one.best.at(0, row), one.largest(r), 1e-5);
        EXPECT_EQ(one.argmax.at(static_cast<size_t>(row)), std::max_element(z.begin(), z.end()) - z.begin());
      }
      for (size_t s = 0; s < static_cast<size_t>(at.scores); ++s) {
        if (!one.is_here(s)) continue;
        const int64_t r = one.row.at(s) - at.first_row;
        const float own = one.logit.at(0, static_cast<int64_t>(s));
        if (one.target.at(s) < 0)
          EXPECT_EQ(own, -INFINITY);
        else
          EXPECT_NEAR(own, one.scaled(r, one.target.at(s)) - (is_relative ? one.lse_of(r) : 0), 1e-5);
      }
    }
}

TEST(SelectedLogprobKernel, OfEqualLogitsTheFirstIsTheArgmax) {
  for (const int64_t vocabulary : {9, 600, 5000}) {
    fresh_launches();
    Case one({2, vocabulary, 0, 0, (4 - vocabulary % 4) % 4});
    for (int64_t c = 0; c < vocabulary; ++c) one.logits.set(0, c, 3), one.logits.set(1, c, c % 7 == 5 ? 2 : 1);
    one.forward(false);
    EXPECT_EQ(one.argmax.at(0), 0);
    EXPECT_EQ(one.argmax.at(1), 5);
    EXPECT_NEAR(one.entropy.at(0, 0), std::log(static_cast<double>(vocabulary)), 1e-5);
  }
}

TEST(SelectedLogprobKernel, ALogitThatIsNoNumberSpoilsItsRowAndNoOther) {
  fresh_launches();
  Case one({2, 5000, 0});
  one.logits.set(0, 4321, NAN);
  one.forward(false);
  EXPECT_TRUE(std::isnan(one.lse.at(0, 0)) && std::isnan(one.entropy.at(0, 0)));
  EXPECT_TRUE(std::isfinite(one.lse.at(0, 1)) && std::isfinite(one.entropy.at(0, 1)));
}

class SelectedLogprobGradient : public testing::TestWithParam<Element> {};

TEST_P(SelectedLogprobGradient, TheGradientTakesTheLogitsPlace) {
  for (const Layout& at : kLayouts)
    for (const auto& [has_logp, has_entropy] : {std::pair{true, false}, {false, true}, {true, true}}) {
      SCOPED_TRACE(name_of(at) + (has_logp ? ", logp" : "") + (has_entropy ? ", entropy" : ""));
      fresh_launches();
      Case one(at);
      const Matrix d = one.backward(GetParam(), has_logp, has_entropy);
      const auto expected = one.gradient(has_logp, has_entropy);
      EXPECT_LT(test::error_of(
                    d, [&](int64_t r, int64_t c) { return expected[static_cast<size_t>(r)][static_cast<size_t>(c)]; }),
                GetParam() == Element::kFloat32 ? 1e-5 : test::rounding(GetParam()));
    }
}

TEST_P(SelectedLogprobGradient, RepeatedScoresAddUpBeforeTheyAreRounded) {
  fresh_launches();
  Case one({1, 40, 300});
  for (size_t s = 0; s < 300; ++s) one.row.data()[s] = 0, one.target.data()[s] = 17;
  const Matrix d = one.backward(GetParam(), true, false);
  EXPECT_NEAR(d.at(0, 17), one.gradient(true, false)[0][17], GetParam() == Element::kFloat32 ? 1e-4 : 0.1);
}

TEST_P(SelectedLogprobGradient, GivesTheSameBitsInEveryOrder) {
  std::vector<std::vector<float>> sums, gradients;
  for (const uint64_t seed : {0, 1, 2}) {
    // Also warps that get far ahead of the others, as only barriers prevent.
    fresh_launches(seed).options.turn = seed == 2 ? 1 << 20 : 64;
    Case one({3, 5003, 50, 1, 5});
    one.forward(true);
    sums.push_back({});
    for (int64_t r = 1; r < 4; ++r)
      sums.back().push_back(one.lse.at(0, r)), sums.back().push_back(one.entropy.at(0, r));
    gradients.push_back(one.backward(GetParam(), true, true).values());
  }
  EXPECT_TRUE(sums[1] == sums[0] && sums[2] == sums[0]);
  EXPECT_TRUE(gradients[1] == gradients[0] && gradients[2] == gradients[0]);
}

// Forward: a row's logits once, and beside them only its two searches for its scores, its four results, and for each
// score its target, logit and result. Backward: the logits once and the gradient once; a row that no gradient reaches
// is not read.
TEST_P(SelectedLogprobGradient, ReadsARowOnceAndWritesItsGradientOnce) {
  constexpr int64_t kRows = 4, kVocabulary = 4096 + 512, kScores = 4;  // one a row, 32 bytes of ids
  constexpr uint64_t kWarps = 8;                                       // each asks for lse and entropy
  const auto make = [] {
    Case one({kRows, kVocabulary, kScores});
    for (size_t s = 0; s < kScores; ++s) one.row.data()[s] = static_cast<int64_t>(s), one.target.data()[s] = 1000;
    return one;
  };
  const uint64_t logits = kRows * kVocabulary * 4 / 32;
  fresh_launches();
  Case forward = make();
  forward.forward(true);
  EXPECT_EQ(launches().counters.launches, 1u);
  EXPECT_EQ(launches().counters.global_sectors, logits + kRows * (2 + 4 + 3));
  EXPECT_EQ(launches().counters.least_sectors, launches().counters.global_sectors);
  for (const bool is_reached : {true, false}) {
    fresh_launches();
    Case backward = make();
    if (!is_reached)
      for (int64_t s = 0; s < kScores; ++s) backward.grad_logp.set(0, s, 0);
    const Matrix d = backward.backward(GetParam(), true, false);
    // Searches, gradient and target of the score, lse and entropy; gradient and target again where it is added.
    const uint64_t beside = kRows * (2 + 2 + 2 * kWarps + (is_reached ? 2 : 0));
    EXPECT_EQ(launches().counters.launches, 1u);
    EXPECT_EQ(
        launches().counters.global_sectors,
        (is_reached ? logits : 0) + static_cast<uint64_t>(kRows * kVocabulary * bytes_of(GetParam()) / 32) + beside);
    EXPECT_EQ(launches().counters.least_sectors, launches().counters.global_sectors);
    if (!is_reached) {
      EXPECT_EQ(test::error_of(d, [](int64_t, int64_t) { return 0.0; }), 0.0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Elements, SelectedLogprobGradient, testing::Values(Element::kFloat32, Element::kBFloat16));

}  // namespace
}  // namespace fpdist::kernels
