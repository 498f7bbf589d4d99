#pragma once
// Tests of the kernels that decode: attention of one query a leaf on the PTX machine, and the same in float64. Keys
// that nobody sees were never written, so that the machine reports who reads them.

#include <gtest/gtest.h>

#include "kernels/tree_attention/decode/decode_attention_kernel.hpp"
#include "tests/kernels/cuda/attention_case.hpp"

namespace fpdist::test {

/// Made after fresh_launches.
class DecodeCase {
 public:
  /// `gap`: elements between the rows of q, k and v; `processors`: that keys are cut for.
  DecodeCase(const TreeMask& mask, const HeadCounts& heads, Element element, Element result, int processors,
             int64_t gap = 0)
      : mask_(mask),
        heads_(heads),
        element_(element),
        result_(result),
        pieces_(kernels::find_pieces(mask.q_row, mask.k_row, mask.k_end)),
        plan_(kernels::plan_decoding(pieces_, queries(),
                                     {heads.query / heads.key, heads.key, kernels::decode_rows_of_tile(element)},
                                     processors)),
        q_(element, queries(), heads.query * heads.size, 1, gap),
        k_(element, keys(), heads.key * heads.size, 0, gap),
        v_(element, keys(), heads.key * heads.size, 0, gap),
        out_(result, queries(), heads.query * heads.size),
        lse_(Element::kFloat32, queries(), heads.query),
        parts_(Element::kFloat32, plan_.slots, heads.query * (heads.size + 1)),
        item_(plan_.item),
        part_begin_(plan_.part_begin),
        part_(plan_.part) {
    std::mt19937_64 random(2);
    std::normal_distribution<float> normal;
    for (int64_t key = 0; key < keys(); ++key) {
      bool is_seen = false;
      for (int64_t query = 0; query < queries(); ++query) is_seen = is_seen || mask_.sees(query, key);
      for (int64_t column = 0; is_seen && column < k_.width(); ++column)
        k_.set(key, column, normal(random)), v_.set(key, column, normal(random));
    }
  }

  int64_t queries() const { return static_cast<int64_t>(mask_.q_row.size()); }
  int64_t keys() const { return static_cast<int64_t>(mask_.k_row.size()); }
  const std::vector<kernels::Piece>& pieces() const { return pieces_; }
  const kernels::DecodePlan& plan() const { return plan_; }
  std::vector<float> results() const {
    std::vector<float> all = out_.values();
    for (const float lse : lse_.values()) all.push_back(lse);
    return all;
  }

  void run() {
    const auto tensor = [&](const Matrix& x, int heads) {
      return kernels::HeadsTensor{x.data(), x.rows(), x.stride(), heads_.size, heads, heads_.size};
    };
    const kernels::DecodeArguments arguments{.q = tensor(q_, heads_.query),
                                             .k = tensor(k_, heads_.key),
                                             .v = tensor(v_, heads_.key),
                                             .out = out_.data(),
                                             .lse = static_cast<float*>(lse_.data()),
                                             .element = element_,
                                             .result = result_,
                                             .item = item_.data(),
                                             .part_begin = part_begin_.data(),
                                             .part = part_.data(),
                                             .items = static_cast<int64_t>(plan_.item.size()),
                                             .slots = plan_.slots,
                                             .parts = static_cast<float*>(parts_.data()),
                                             .scale = kScale};
    ASSERT_EQ(kernels::launch_decode_attention(arguments, nullptr), cudaSuccess);
  }

  /// The largest errors against float64; lse infinite where only one side has no keys.
  struct Errors {
    double out = 0, lse = 0;
  };
  Errors errors() const {
    const int group = heads_.query / heads_.key;
    Errors worst;
    for (int64_t query = 0; query < queries(); ++query)
      for (int head = 0; head < heads_.query; ++head) {
        const int first = head / group * heads_.size;
        double sum = 0;
        std::vector<double> out(static_cast<size_t>(heads_.size));
        for (int64_t key = 0; key < keys(); ++key) {
          if (!mask_.sees(query, key)) continue;
          double score = 0;
          for (int d = 0; d < heads_.size; ++d)
            score += static_cast<double>(q_.at(query, head * heads_.size + d)) * k_.at(key, first + d);
          const double weight = std::exp(score * kScale);
          sum += weight;
          for (int d = 0; d < heads_.size; ++d) out[static_cast<size_t>(d)] += weight * v_.at(key, first + d);
        }
        const double lse = sum > 0 ? std::log(sum) : -INFINITY, own = lse_.at(query, head);
        if (own != lse) worst.lse = std::max(worst.lse, std::fabs(own - lse));
        for (int d = 0; d < heads_.size; ++d) {
          const double right = sum > 0 ? out[static_cast<size_t>(d)] / sum : 0,
                       apart = std::fabs(out_.at(query, head * heads_.size + d) - right);
          worst.out = std::isnan(apart) ? INFINITY : std::max(worst.out, apart);
        }
      }
    return worst;
  }

 private:
  static constexpr float kScale = 0.1f;
  TreeMask mask_;
  HeadCounts heads_;
  Element element_, result_;
  std::vector<kernels::Piece> pieces_;
  kernels::DecodePlan plan_;
  Matrix q_, k_, v_, out_, lse_, parts_;
  OnDevice<kernels::DecodeItem> item_;
  OnDevice<int32_t> part_begin_, part_;
};

}  // namespace fpdist::test
