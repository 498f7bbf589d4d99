#pragma once
// Tests of our attention kernels: attention of random rows on the PTX machine, and the same in float64.

#include <gtest/gtest.h>

#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"
#include "kernels/tree_attention/portable/portable_attention.hpp"
#include "tests/kernels/cuda/matrix.hpp"
#include "tests/kernels/cuda/tree_mask.hpp"

namespace fpdist::test {

struct HeadCounts {
  int query, key, size;
};

/// Whose kernels, and of what.
enum class Cores { kHopper, kPortable };
struct KernelChoice {
  Cores cores = Cores::kHopper;
  Element element = Element::kBFloat16;
};

/// Values where a kernel finds them.
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(std::vector<T> values) : values_(std::move(values)) {
    launches().memory.add(values_.data(), values_.size() * sizeof(T), true);
  }
  const T* data() const { return values_.data(); }

 private:
  std::vector<T> values_;
};

class DeviceTiles {
 public:
  explicit DeviceTiles(kernels::TileTable table)
      : blocks_(static_cast<int32_t>(table.order.size())),
        order_(std::move(table.order)),
        offset_(std::move(table.offset)),
        tile_(std::move(table.tile)) {}
  kernels::TileLists lists() const { return {order_.data(), offset_.data(), tile_.data(), blocks_}; }

 private:
  int32_t blocks_;
  OnDevice<int32_t> order_, offset_, tile_;
};

/// Attention of random rows, on the machine; made after fresh_launches.
class AttentionCase {
 public:
  /// `gap`: elements between the rows of q, k and v.
  AttentionCase(const TreeMask& mask, const HeadCounts& heads, int64_t gap = 0, float scale = 0.1f,
                Element result = Element::kFloat32, kernels::ListCut cut = {}, const KernelChoice& choice = {},
                kernels::ListCut query_cut = {})
      : mask_(mask),
        heads_(heads),
        choice_(choice),
        scale_(scale),
        result_(result),
        cut_(cut),
        query_cut_(query_cut),
        rows_(kernels::mask_rows(mask.q_row, mask.k_row, mask.k_end, kernels::kPaddedRows)),
        q_(choice.element, queries(), heads.query * heads.size, 1, gap),
        k_(choice.element, keys(), heads.key * heads.size, 2, gap),
        v_(choice.element, keys(), heads.key * heads.size, 3, gap),
        grad_out_(choice.element, queries(), heads.query * heads.size, 4, gap),
        out_(result, queries(), heads.query * heads.size),
        lse_(Element::kFloat32, queries(), heads.query),
        dq_(result, queries(), heads.query * heads.size),
        dk_(result, keys(), heads.key * heads.size),
        dv_(result, keys(), heads.key * heads.size),
        partial_(Element::kFloat32, 2 * cut.parts * cut.blocks * kernels::kKeyBlock, heads.key * heads.size),
        parts_(Element::kFloat32, query_cut.parts * query_cut.blocks * kernels::kQueryBlock,
               heads.query * (heads.size + 1)),
        dq_parts_(Element::kFloat32, query_cut.parts * query_cut.blocks * kernels::kQueryBlock,
                  heads.query * heads.size),
        row_sums_(Element::kFloat32, 2 * heads.query, static_cast<int64_t>(rows_.q_row.size())),
        q_row_(rows_.q_row),
        key_(rows_.key),
        by_query_(kernels::tiles_by_query(
            rows_, kernels::kQueryBlock,
            choice.cores == Cores::kHopper ? kernels::kKeysOfTile : kernels::kKeysOfBackwardTile)),
        by_query_backward_(kernels::tiles_by_query(rows_, kernels::kQueryBlock, kernels::kKeysOfBackwardTile)),
        by_key_(kernels::tiles_by_key(rows_, kernels::kQueriesOfTile, kernels::kKeyBlock)) {}

  int64_t queries() const { return static_cast<int64_t>(mask_.q_row.size()); }
  int64_t keys() const { return static_cast<int64_t>(mask_.k_row.size()); }
  /// Everything that the kernels wrote.
  std::vector<float> results() const {
    std::vector<float> all;
    for (const Matrix* const one : {&out_, &lse_, &dq_, &dk_, &dv_}) {
      const std::vector<float> own = one->values();
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }

  void run() {
    const kernels::TreeAttentionArguments arguments{.q = tensor(q_, heads_.query),
                                                    .k = tensor(k_, heads_.key),
                                                    .v = tensor(v_, heads_.key),
                                                    .out = out_.data(),
                                                    .lse = floats(lse_),
                                                    .element = choice_.element,
                                                    .result = result_,
                                                    .cut = query_cut_,
                                                    .parts = floats(parts_),
                                                    .rows = {q_row_.data(), key_.data()},
                                                    .by_query = by_query_.lists(),
                                                    .scale = scale_};
    const auto launch =
        choice_.cores == Cores::kHopper ? kernels::launch_tree_attention : kernels::launch_portable_attention;
    ASSERT_EQ(launch(arguments, nullptr), cudaSuccess);
  }
  /// With the outputs that are there.
  void run_backward() {
    const kernels::TreeAttentionBackwardArguments arguments{.q = tensor(q_, heads_.query),
                                                            .k = tensor(k_, heads_.key),
                                                            .v = tensor(v_, heads_.key),
                                                            .grad_out = tensor(grad_out_, heads_.query),
                                                            .out = out_.data(),
                                                            .lse = floats(lse_),
                                                            .row_sums = floats(row_sums_),
                                                            .dq = dq_.data(),
                                                            .dk = dk_.data(),
                                                            .dv = dv_.data(),
                                                            .element = choice_.element,
                                                            .merged = result_,
                                                            .result = result_,
                                                            .cut = cut_,
                                                            .partial = floats(partial_),
                                                            .query_cut = query_cut_,
                                                            .dq_parts = floats(dq_parts_),
                                                            .rows = {q_row_.data(), key_.data()},
                                                            .by_query = by_query_backward_.lists(),
                                                            .by_key = by_key_.lists(),
                                                            .scale = scale_};
    const auto launch = choice_.cores == Cores::kHopper ? kernels::launch_tree_attention_backward
                                                        : kernels::launch_portable_attention_backward;
    ASSERT_EQ(launch(arguments, nullptr), cudaSuccess);
  }

  /// Of one query and head, in float64.
  struct Row {
    std::vector<double> out;
    double lse;
  };
  Row right(int64_t query, int head) const {
    const int group = heads_.query / heads_.key, first = head / group * heads_.size;
    std::vector<double> score(static_cast<size_t>(keys()), -INFINITY);
    double top = -INFINITY, sum = 0;
    for (int64_t key = 0; key < keys(); ++key) {
      if (!mask_.sees(query, key)) continue;
      double dot = 0;
      for (int d = 0; d < heads_.size; ++d)
        dot += static_cast<double>(q_.at(query, head * heads_.size + d)) * k_.at(key, first + d);
      score[static_cast<size_t>(key)] = dot * scale_, top = std::max(top, dot * scale_);
    }
    Row row{std::vector<double>(static_cast<size_t>(heads_.size)), -INFINITY};
    if (top == -INFINITY) return row;
    for (int64_t key = 0; key < keys(); ++key) {
      const double weight = std::exp(score[static_cast<size_t>(key)] - top);
      sum += weight;
      for (int d = 0; weight > 0 && d < heads_.size; ++d)
        row.out[static_cast<size_t>(d)] += weight * v_.at(key, first + d);
    }
    for (double& x : row.out) x /= sum;
    row.lse = top + std::log(sum);
    return row;
  }

  /// Gradients in float64, [rows][heads * size] each.
  struct Gradients {
    std::vector<double> q, k, v;
  };
  Gradients right_gradients() const {
    const auto count = [](const Matrix& x) { return static_cast<size_t>(x.rows() * x.width()); };
    Gradients sum{std::vector<double>(count(dq_)), std::vector<double>(count(dk_)), std::vector<double>(count(dv_))};
    for (int64_t query = 0; query < queries(); ++query)
      for (int head = 0; head < heads_.query; ++head) add_gradients(query, head, sum);
    return sum;
  }

  /// The largest error of dq, dk and dv, each over its own largest element.
  double gradient_error() const {
    const Gradients sum = right_gradients();
    const std::pair<const Matrix*, const std::vector<double>*> all[] = {{&dq_, &sum.q}, {&dk_, &sum.k}, {&dv_, &sum.v}};
    double worst = 0;
    for (const auto& [own, exact] : all) {
      const auto right = [&, width = own->width(), &exact = *exact](int64_t row, int64_t column) {
        return exact[static_cast<size_t>(row * width + column)];
      };
      const double error = error_of(*own, right);
      worst = std::isnan(error) ? error : std::max(worst, error);
    }
    return worst;
  }

  double out_error() const {
    const std::vector<Row> rows = right_rows();
    return error_of(out_, [&](int64_t query, int64_t column) {
      return rows[static_cast<size_t>(query * heads_.query + column / heads_.size)]
          .out[static_cast<size_t>(column % heads_.size)];
    });
  }
  /// Infinite where only one side has no keys.
  double lse_error() const {
    const std::vector<Row> rows = right_rows();
    double worst = 0;
    for (int64_t query = 0; query < queries(); ++query)
      for (int head = 0; head < heads_.query; ++head) {
        const double right = rows[static_cast<size_t>(query * heads_.query + head)].lse, own = lse_.at(query, head);
        if (own != right) worst = std::max(worst, std::fabs(own - right));
      }
    return worst;
  }

 private:
  kernels::HeadsTensor tensor(const Matrix& x, int heads) const {
    return {x.data(), x.rows(), x.stride(), heads_.size, heads, heads_.size};
  }
  static float* floats(const Matrix& x) { return static_cast<float*>(x.data()); }

  std::vector<Row> right_rows() const {
    std::vector<Row> rows;
    for (int64_t query = 0; query < queries(); ++query)
      for (int head = 0; head < heads_.query; ++head) rows.push_back(right(query, head));
    return rows;
  }
  double dot(const Matrix& a, int64_t a_row, int64_t a_column, const Matrix& b, int64_t b_row, int64_t b_column) const {
    double sum = 0;
    for (int d = 0; d < heads_.size; ++d)
      sum += static_cast<double>(a.at(a_row, a_column + d)) * b.at(b_row, b_column + d);
    return sum;
  }
  void add_gradients(int64_t query, int head, Gradients& sum) const {
    const Row own = right(query, head);
    const int q_column = head * heads_.size, k_column = head / (heads_.query / heads_.key) * heads_.size;
    double delta = 0;
    for (int d = 0; d < heads_.size; ++d)
      delta += own.out[static_cast<size_t>(d)] * static_cast<double>(grad_out_.at(query, q_column + d));
    for (int64_t key = 0; key < keys(); ++key) {
      if (!mask_.sees(query, key)) continue;
      const double weight = std::exp(dot(q_, query, q_column, k_, key, k_column) * scale_ - own.lse);
      const double grad = weight * (dot(grad_out_, query, q_column, v_, key, k_column) - delta) * scale_;
      for (int d = 0; d < heads_.size; ++d) {
        const auto of_query = static_cast<size_t>(query * dq_.width() + q_column + d);
        const auto of_key = static_cast<size_t>(key * dk_.width() + k_column + d);
        sum.q[of_query] += grad * k_.at(key, k_column + d);
        sum.k[of_key] += grad * q_.at(query, q_column + d);
        sum.v[of_key] += weight * grad_out_.at(query, q_column + d);
      }
    }
  }

  TreeMask mask_;
  HeadCounts heads_;
  KernelChoice choice_;
  float scale_;
  Element result_;
  kernels::ListCut cut_, query_cut_;
  kernels::MaskRows rows_;
  Matrix q_, k_, v_, grad_out_, out_, lse_, dq_, dk_, dv_, partial_, parts_, dq_parts_, row_sums_;
  OnDevice<int32_t> q_row_;
  OnDevice<kernels::VisibleRows> key_;
  DeviceTiles by_query_, by_query_backward_, by_key_;
};

}  // namespace fpdist::test
