#pragma once
// Tests: which blocks of keys FlexPrefill keeps, in plain loops, as the paper's algorithm goes step by step: nothing of
// it is the library's.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <set>
#include <utility>
#include <vector>

namespace fpdist::test {

using Row = std::vector<double>;
using Matrix = std::vector<Row>;

struct FlexModel {
  double gamma, tau, scale;
  int min_budget, max_budget, block;

  int up(int rows) const { return (rows + block - 1) / block; }
  static double dot(const Row& a, const Row& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
  static void softmax(Row& x) {
    const double most = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (double& each : x) sum += each = std::exp(each - most);
    for (double& each : x) each /= sum;
  }
  static Row mean(const Matrix& x, int begin, int end) {
    Row sum(x[0].size(), 0.0);
    for (int r = begin; r < end; ++r)
      for (size_t d = 0; d < sum.size(); ++d) sum[d] += x[r][d] / (end - begin);
    return sum;
  }
  Matrix block_means(const Matrix& x) const {
    Matrix all;
    for (int r = 0; r < static_cast<int>(x.size()); r += block)
      all.push_back(mean(x, r, std::min<int>(r + block, static_cast<int>(x.size()))));
    return all;
  }
  Row pooled(const Row& x) const {
    Row sums(up(static_cast<int>(x.size())), 0.0);
    for (size_t i = 0; i < x.size(); ++i) sums[i / block] += x[i];
    return sums;
  }
  /// Indices by value, descending; the earlier of equal ones first.
  static std::vector<int> ranked(const Row& x) {
    std::vector<std::pair<double, int>> all;
    for (size_t i = 0; i < x.size(); ++i) all.emplace_back(-x[i], static_cast<int>(i));
    std::sort(all.begin(), all.end());
    std::vector<int> order;
    for (const auto& [value, at] : all) order.push_back(at);
    return order;
  }
  int covering(const Row& x) const {
    int count = 0;
    double sum = 0;
    for (const int at : ranked(x))
      if ((sum += x[at]) <= gamma) ++count;
    return count + 1;
  }
  int budget(const Row& line, int blocks) const {
    const int least = std::max(1, up(min_budget)), most = max_budget == 0 ? blocks : std::min(blocks, up(max_budget));
    return std::min(std::max(covering(line) / block + 1, least), std::max(least, most));
  }

  struct Result {
    std::vector<std::vector<int32_t>> seen;
    bool is_query_aware = false;
  };
  /// q: the last rows of a path whose keys k are.
  Result operator()(const Matrix& q, const Matrix& k) const {
    const int n = static_cast<int>(q.size()), N = static_cast<int>(k.size()), first = N - n, B = up(N), rows = up(n);
    std::set<std::pair<int, int>> kept;  // (query block of the path, key block)
    const auto result = [&](bool aware) {
      Result all{std::vector<std::vector<int32_t>>(rows), aware};
      for (const auto& [r, c] : kept)
        if (c >= 0 && c <= r) all.seen[r - first / block].push_back(c);
      return all;
    };
    if (gamma >= 1 || n <= 2 * block || N <= std::max(2 * block, block * up(min_budget))) {
      for (int r = first / block; r < B; ++r)
        for (int c = 0; c <= r; ++c) kept.emplace(r, c);
      return result(false);
    }
    Row vertical(N, 0.0), slash(N, 0.0);
    for (int i = 0; i < block; ++i) {
      const int self = N - block + i;
      Row attention;
      for (int j = 0; j <= self; ++j) attention.push_back(dot(q[n - block + i], k[j]) * scale);
      softmax(attention);
      for (int j = 0; j <= self; ++j) vertical[j] += attention[j] / block, slash[self - j] += attention[j] / block;
    }
    const Matrix keys = block_means(k);
    Row estimate, V = pooled(vertical), S = pooled(slash);
    for (const Row& key : keys) estimate.push_back(dot(mean(q, n - block, n), key) * scale);
    softmax(estimate);
    double js = 0;
    for (int c = 0; c < B; ++c)
      for (const double x : {estimate[c], V[c]})
        if (x > 0) js += x * std::log(2 * x / (estimate[c] + V[c])) / 2;
    const bool aware = std::sqrt(std::max(0.0, js)) < tau;
    const int fewest = std::max(1, up(min_budget));
    const int columns = aware ? fewest : budget(vertical, B), diagonals = aware ? fewest : budget(slash, B);
    V[0] = S[0] = std::numeric_limits<double>::infinity();
    const std::vector<int> column = ranked(V), diagonal = ranked(S);
    for (int r = first / block; r < B; ++r) {
      for (int i = 0; i < std::min(columns, B); ++i) kept.emplace(r, column[i]);
      for (int i = 0; i < std::min(diagonals, B); ++i) kept.emplace(r, r - diagonal[i]);
    }
    if (aware) add_by_query(block_means(q), keys, first / block, kept);
    return result(aware);
  }

  void add_by_query(const Matrix& queries, const Matrix& keys, int first, std::set<std::pair<int, int>>& kept) const {
    const int columns = static_cast<int>(keys.size());
    Row all;
    for (size_t r = 0; r < queries.size(); ++r) {
      Row row;
      for (int c = 0; c <= first + static_cast<int>(r); ++c) row.push_back(dot(queries[r], keys[c]) * scale);
      softmax(row);
      row.resize(columns, 0.0);
      all.insert(all.end(), row.begin(), row.end());
    }
    double sum = 0;
    for (const int at : ranked(all))
      if ((sum += all[at]) <= gamma * static_cast<double>(queries.size()))
        kept.emplace(first + at / columns, at % columns);
  }
};

}  // namespace fpdist::test
