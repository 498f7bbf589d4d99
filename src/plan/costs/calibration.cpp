// Five unknowns, in seconds: a row of a layer, its pairs forward and backward, an edge, and what a layer of any
// operation costs before its first row. So few that the best of all 32 choices of positive ones is found by trying.

#include "src/plan/costs/calibration.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <tuple>
#include <vector>

#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::plan {
namespace {

enum Unknown : size_t { kRow, kOverhead, kForwardPair, kBackwardPair, kEdge, kUnknowns };
using Vector = std::array<double, kUnknowns>;
using Matrix = std::array<Vector, kUnknowns>;

constexpr double kLargest = 1e8;            // units of the largest coefficient: the most that a cost file takes
constexpr int64_t kMostOverhead = 1000000;  // rows

/// How often each unknown is in an operation; of costs only what is given is read.
Vector counts_of(const TimedOp& op, const StageCosts& given) {
  const auto layers = static_cast<double>(op.layers), edges = static_cast<double>(op.has_head ? op.work.edges : 0);
  const double rows = layers * static_cast<double>(op.work.rows), pairs = layers * static_cast<double>(op.work.pairs);
  const double again = given.recompute ? 1 : 0;
  const double weight = 1e-3 * static_cast<double>(given.weight_permille);
  const double head = 1e-3 * static_cast<double>(given.head_weight_permille);
  switch (op.pass) {
    case TimedPass::kForward:
      return {rows, layers, pairs, 0, edges};
    case TimedPass::kBackwardInput:
      return {rows * (1 + again), layers, pairs * again, pairs, edges};
    case TimedPass::kBackwardWeight:
      return {rows * weight, layers * weight, 0, 0, edges * head};
    case TimedPass::kBackward:
      break;
  }
  return {rows * (1 + weight + again), (1 + weight) * layers, pairs * again, pairs, (1 + head) * edges};
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < kUnknowns; ++i) sum += a[i] * b[i];
  return sum;
}

Vector coefficients_of(const StageCosts& costs) {
  const auto row = static_cast<double>(costs.per_row);
  return {row, row * static_cast<double>(costs.overhead_rows), static_cast<double>(costs.forward_pair),
          static_cast<double>(costs.backward_pair), static_cast<double>(costs.per_edge)};
}

/// (count, time) pairs, each divided by its time: what is then least in squares is the relative error. Times far below
/// the mean are divided by a tenth of it; a moment's error there means nothing.
struct Equations {
  std::vector<Vector> left;
  std::vector<double> right;
};

Equations equations_of(std::span<const TimedOp> ops, const StageCosts& given) {
  double mean = 0;
  for (const TimedOp& op : ops) mean += op.seconds / static_cast<double>(ops.size());
  Equations equations;
  for (const TimedOp& op : ops) {
    const double weight = 1 / std::max(op.seconds, 0.1 * mean);
    Vector& left = equations.left.emplace_back(counts_of(op, given));
    for (double& count : left) count *= weight;
    equations.right.push_back(op.seconds * weight);
  }
  return equations;
}

/// Solves a symmetric positive definite system over the unknowns in `chosen` (bits); the others are 0.
Vector solve(const Matrix& matrix, const Vector& right, unsigned chosen) {
  Matrix a = matrix;
  Vector b = right, x{};
  const auto is_out = [&](size_t i) { return (chosen >> i & 1U) == 0; };
  for (size_t i = 0; i < kUnknowns; ++i) {
    if (is_out(i)) continue;
    for (size_t j = i + 1; j < kUnknowns; ++j) {
      if (is_out(j)) continue;
      const double factor = a[j][i] / a[i][i];
      for (size_t k = i; k < kUnknowns; ++k) a[j][k] -= factor * a[i][k];
      b[j] -= factor * b[i];
    }
  }
  for (size_t i = kUnknowns; i-- > 0;) {
    if (is_out(i)) continue;
    double sum = b[i];
    for (size_t j = i + 1; j < kUnknowns; ++j) sum -= a[i][j] * x[j];
    x[i] = sum / a[i][i];
  }
  return x;
}

/// The least of x'Ax - 2b'x with x >= 0. A is positive definite: at the least, what is positive solves its own system.
Vector solve_non_negative(const Matrix& a, const Vector& b) {
  Vector best{};
  double least = 0;  // of x = 0
  for (unsigned chosen = 1; chosen < 1U << kUnknowns; ++chosen) {
    const Vector x = solve(a, b, chosen);
    if (*std::min_element(x.begin(), x.end()) < 0) continue;
    const double value = -dot(b, x);  // x'Ax = b'x where x solves its system
    if (value < least) least = value, best = x;
  }
  return best;
}

class Fit {
 public:
  Fit(Equations equations, const Vector& given) : equations_(std::move(equations)) {
    const auto count = static_cast<double>(equations_.left.size());
    double both = 0, alone = 0;  // the given proportions, scaled to these times
    for (size_t n = 0; n < equations_.left.size(); ++n) {
      const double predicted = dot(equations_.left[n], given);
      both += predicted * equations_.right[n], alone += predicted * predicted;
      for (size_t i = 0; i < kUnknowns; ++i) size_[i] += equations_.left[n][i] * equations_.left[n][i] / count;
    }
    for (size_t i = 0; i < kUnknowns; ++i) {
      size_[i] = std::sqrt(size_[i]);
      home_[i] = alone > 0 ? given[i] * both / alone : 0;
    }
  }

  /// First as the equations are, then pulled towards the given proportions as far as their noise asks for: each unknown
  /// is taken to lie within about its own size of where it was given. Overhead below the given one is taken at the
  /// upper end of what the noise leaves open (two standard deviations): packs cut too fine cost far more than packs cut
  /// too coarse.
  Vector run() const {
    const Vector free = run(system(kPull));
    double noise = 0;
    for (size_t n = 0; n < equations_.left.size(); ++n) {
      const double off = dot(equations_.left[n], free) - equations_.right[n];
      noise += off * off;
    }
    const auto count = static_cast<double>(equations_.left.size());
    const double variance = noise / (count * count);  // of what a whole column of size 1 tells
    const double pull = std::max(kPull, variance);
    const Vector x = run(system(pull));
    if (size_[kOverhead] == 0 || x[kOverhead] >= home_[kOverhead]) return x;
    const double deviation = std::sqrt(variance * overhead_doubt(pull)) / size_[kOverhead];
    return run(with_overhead(system(pull), std::min(home_[kOverhead], x[kOverhead] + 2 * deviation)));
  }

 private:
  static constexpr double kPull = 1e-10;  // against columns of size 1: decides only what nothing else does
  static constexpr double kLeastPart = 0.05;

  struct System {
    Matrix a{};
    Vector b{};
  };
  System system(double pull) const {
    const auto count = static_cast<double>(equations_.left.size());
    System result;
    auto& [a, b] = result;
    for (size_t n = 0; n < equations_.left.size(); ++n)
      for (size_t i = 0; i < kUnknowns; ++i) {
        if (size_[i] == 0) continue;
        const double x = equations_.left[n][i] / size_[i] / count;
        b[i] += x * equations_.right[n];
        for (size_t j = 0; j < kUnknowns; ++j)
          if (size_[j] > 0) a[i][j] += x * equations_.left[n][j] / size_[j];
      }
    for (size_t i = 0; i < kUnknowns; ++i) {
      const double home = size_[i] * home_[i];  // its part of the times
      const double of_own = pull / std::pow(std::clamp(home, kLeastPart, 1.0), 2);
      a[i][i] += size_[i] > 0 ? of_own : 1;
      b[i] += of_own * home;
    }
    return result;
  }
  /// The system of the other unknowns when the overhead is known.
  System with_overhead(System given, double overhead) const {
    const double known = overhead * size_[kOverhead];
    for (size_t i = 0; i < kUnknowns; ++i) {
      given.b[i] -= given.a[i][kOverhead] * known;
      given.a[i][kOverhead] = given.a[kOverhead][i] = 0;
    }
    given.a[kOverhead][kOverhead] = 1, given.b[kOverhead] = known;
    return given;
  }
  Vector run(const System& given) const {
    Vector x = solve_non_negative(given.a, given.b);
    for (size_t i = 0; i < kUnknowns; ++i) x[i] = size_[i] > 0 ? x[i] / size_[i] : home_[i];
    return x;
  }

  /// The overhead's entry on the diagonal of the system's inverse.
  double overhead_doubt(double pull) const {
    Vector unit{};
    unit[kOverhead] = 1;
    return solve(system(pull).a, unit, (1U << kUnknowns) - 1)[kOverhead];
  }

  Equations equations_;
  Vector size_{}, home_{};  // root mean square of a column; where unknowns stay that nothing moves
};

/// Seconds to whole units.
CostFit in_units(const Vector& seconds, const StageCosts& given) {
  CostFit fit{.costs = given};
  const double row = std::max(seconds[kRow], seconds[kOverhead] / static_cast<double>(kMostOverhead));
  const double largest = std::max({row, seconds[kForwardPair], seconds[kBackwardPair], seconds[kEdge]});
  if (!(largest > 0)) return fit;
  fit.seconds_per_unit = largest / kLargest;
  const auto units = [&](double value) { return static_cast<int64_t>(std::llround(value / fit.seconds_per_unit)); };
  fit.costs.per_row = std::max<int64_t>(1, units(row));
  fit.costs.forward_pair = units(seconds[kForwardPair]);
  fit.costs.backward_pair = units(seconds[kBackwardPair]);
  fit.costs.per_edge = units(seconds[kEdge]);
  const double per_row = static_cast<double>(fit.costs.per_row) * fit.seconds_per_unit;
  fit.costs.overhead_rows = std::min<int64_t>(kMostOverhead, std::llround(seconds[kOverhead] / per_row));
  return fit;
}

CostFit fit_to(std::span<const TimedOp> ops, const StageCosts& given) {
  CostFit fit = in_units(Fit(equations_of(ops, given), coefficients_of(given)).run(), given);
  fit.ops = static_cast<int64_t>(ops.size());
  // Relative errors weigh what took too long less than what was quick: the scale is the median operation's.
  std::vector<double> ratios;
  for (const TimedOp& op : ops)
    if (const int64_t units = units_of(fit.costs, op); units > 0)
      ratios.push_back(op.seconds / static_cast<double>(units));
  if (ratios.empty()) return fit;
  const auto middle = ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2);
  std::nth_element(ratios.begin(), middle, ratios.end());
  fit.seconds_per_unit = *middle;
  return fit;
}

}  // namespace

int64_t units_of(const StageCosts& costs, const TimedOp& op) {
  const UnitCost unit = unit_cost(costs, op.work);
  const auto of = [&](Pass pass) { return op.layers * unit.layer[pass] + (op.has_head ? unit.head[pass] : 0); };
  switch (op.pass) {
    case TimedPass::kForward:
      return of(kForwardPass);
    case TimedPass::kBackwardInput:
      return of(kInputPass);
    case TimedPass::kBackwardWeight:
      return of(kWeightPass);
    case TimedPass::kBackward:
      break;
  }
  return of(kInputPass) + of(kWeightPass);
}

CostFit fit_costs(std::span<const TimedOp> ops, const StageCosts& given) {
  std::vector<TimedOp> usable, fitted, asked;
  std::map<std::tuple<TimedPass, int64_t, bool>, int> seen;  // every other op of each kind
  for (const TimedOp& op : ops) {
    if (op.work.rows <= 0 || !(op.seconds > 0) || !std::isfinite(op.seconds)) continue;
    usable.push_back(op);
    (seen[{op.pass, op.layers, op.has_head}]++ % 2 == 0 ? fitted : asked).push_back(op);
  }
  if (usable.empty()) return {.costs = given};
  CostFit fit = fit_to(usable, given);
  const CostFit half = fit_to(fitted, given);
  for (const TimedOp& op : asked) {
    const double predicted = static_cast<double>(units_of(half.costs, op)) * half.seconds_per_unit;
    const double error = std::abs(predicted / op.seconds - 1);
    fit.mean_error += error / static_cast<double>(asked.size());
    fit.worst_error = std::max(fit.worst_error, error);
  }
  return fit;
}

}  // namespace fpdist::plan
