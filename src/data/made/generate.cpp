#include "src/data/made/generate.hpp"

#include <cstdint>
#include <string>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"

namespace fpdist::data {
namespace {

constexpr uint64_t kGenerateStream = uint64_t{0x9e4e7a} << 40;

/// A sum of two two-digit numbers whose ones need a carry.
struct Addition {
  uint64_t a, b;
};

Addition draw_sum(Rng& rng) {
  const uint64_t ones_a = 1 + rng.below(9);
  const uint64_t ones_b = (10 - ones_a) + rng.below(ones_a);  // ones_a + ones_b in 10..18
  return {10 * (1 + rng.below(9)) + ones_a, 10 * (1 + rng.below(9)) + ones_b};
}

std::string question(const Addition& sum) { return text("Question: ", sum.a, "+", sum.b, "=\\nAnswer:"); }

/// Column by column with the carry: " 7+5=12, write 2, carry 1. 1+2+1=4. So 42."
std::string right_answer(const Addition& sum) {
  const uint64_t ones = sum.a % 10 + sum.b % 10, tens = sum.a / 10 + sum.b / 10 + 1;
  return text(" ", sum.a % 10, "+", sum.b % 10, "=", ones, ", write ", ones - 10, ", carry 1. ", sum.a / 10, "+",
              sum.b / 10, "+1=", tens, ". So ", sum.a + sum.b, ".");
}

/// A pupil's classic: forgets the carry and writes the column sums side by side, " 7+5=12, write 12. 1+2=3. So 312."
/// Every sum here needs a carry, so it is always wrong, and the method itself can be told from the right one.
std::string wrong_answer(const Addition& sum) {
  const uint64_t ones = sum.a % 10 + sum.b % 10, tens = sum.a / 10 + sum.b / 10;
  return text(" ", sum.a % 10, "+", sum.b % 10, "=", ones, ", write ", ones, ". ", sum.a / 10, "+", sum.b / 10, "=",
              tens, ". So ", tens, ones, ".");
}

}  // namespace

std::string arithmetic_pairs(int64_t pairs, int shots, uint64_t seed) {
  check<ConfigError>(pairs >= 0 && shots >= 0, "cannot generate ", pairs, " pairs behind ", shots,
                     " worked examples: both must be 0 or more");
  Rng rng(seed, kGenerateStream);
  std::string preamble = "Add the numbers column by column, from the right, and carry.\\n\\n";
  for (int shot = 0; shot < shots; ++shot) {
    const Addition sum = draw_sum(rng);
    preamble += question(sum) + right_answer(sum) + "\\n\\n";
  }
  std::string rows;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const Addition sum = draw_sum(rng);
    rows += text(R"({"prompt": ")", preamble, question(sum), R"(", "chosen": ")", right_answer(sum),
                 R"(", "rejected": ")", wrong_answer(sum), "\"}\n");
  }
  return rows;
}

std::string digit_sums() {
  std::string rows;
  for (int a = 0; a < 10; ++a)
    for (int b = 0; a + b < 10; ++b) rows += text(R"({"prompt": ")", a, "+", b, R"(=", "answer": ")", a + b, "\"}\n");
  return rows;
}

}  // namespace fpdist::data
