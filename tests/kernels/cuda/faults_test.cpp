// Mistakes planted in the kernels' sources (plant_fault.py), each of which the PTX machine has to report. On a GPU most
// of them would give the right result most of the time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "kernels/nf4/cuda/nf4_kernel.hpp"
#include "kernels/part_sum/cuda/part_sum_kernel.hpp"
#include "kernels/rms_norm/cuda/rms_norm_kernel.hpp"
#include "kernels/rotary/cuda/rotary_kernel.hpp"
#include "kernels/selected_logprob/cuda/selected_logprob_kernel.hpp"
#include "kernels/swiglu/cuda/swiglu_kernel.hpp"
#include "tests/kernels/cuda/decode_case.hpp"

namespace fpdist::kernels {
namespace {

using test::fresh_launches, test::launches, test::Matrix;

/// From here on the kernels with that fault run.
void plant(const std::string& fault) {
  std::ifstream file(std::string(FPDIST_FAULTS_DIR) + "/" + fault + ".ptx");
  ASSERT_TRUE(file) << fault;
  std::stringstream text;
  text << file.rdbuf();
  fresh_launches();
  launches().faulty = ptx::parse(text.str());
}

template <typename Run>
std::string report_of(const Run& run) {
  try {
    run();
  } catch (const ptx::Fault& fault) {
    return fault.what();
  }
  return "nothing was reported";
}

void swiglu(int64_t rows, int64_t width, int64_t gap) {
  const Matrix gate(Element::kFloat32, rows, width, 1, gap), up(Element::kFloat32, rows, width, 2, gap);
  const Matrix out(Element::kFloat32, rows, width);
  launch_swiglu({gate.data(), up.data(), out.data(), rows, width, gate.stride(), up.stride()}, Element::kFloat32,
                nullptr);
}

void nf4(int64_t elements) {
  const Matrix out(Element::kFloat32, 1, elements), absmax(Element::kFloat32, 1, (elements + 63) / 64, 1);
  const std::vector<uint8_t> code(static_cast<size_t>((elements + 1) / 2), 0x5a);
  launches().memory.add(code.data(), code.size(), true);
  launch_dequantize_nf4({.code = code.data(),
                         .absmax = absmax.data(),
                         .nested_absmax = nullptr,
                         .nested_map = nullptr,
                         .out = out.data(),
                         .elements = elements,
                         .nested_offset = 0,
                         .block = 64,
                         .nested_block = 256},
                        Element::kFloat32, Element::kFloat32, nullptr);
}

void part_sum(int64_t count) {
  const Matrix first(Element::kFloat32, 1, count, 1), second(Element::kFloat32, 1, count, 2);
  const Matrix out(Element::kFloat32, 1, count);
  launch_part_sum({{first.data(), second.data()}, out.data(), 2, count}, Element::kFloat32, nullptr);
}

void rms_norm(int64_t rows, int64_t width, bool is_backward) {
  const auto element = Element::kFloat32;
  const Matrix x(element, rows, width, 1), dy(element, rows, width, 2), weight(element, 1, width, 3);
  const Matrix y(element, rows, width), dw(element, 1, width);
  const RmsNormShape shape = shape_of_rms_norm(rows, width, element, true);
  const Matrix partial(element, shape.blocks, width);
  const auto columns = static_cast<uint32_t>(width);
  if (!is_backward)
    launch_rms_norm({x.data(), weight.data(), y.data(), rows, width, columns, 1e-6f}, shape, nullptr);
  else
    launch_rms_norm_backward({dy.data(), x.data(), weight.data(), y.data(), static_cast<float*>(partial.data()),
                              static_cast<float*>(dw.data()), rows, width, width, columns, 1e-6f},
                             shape, nullptr);
}

void rotary(int64_t rows, int heads, int half) {
  const Matrix x(Element::kFloat32, rows, 2 * heads * half, 1), out(Element::kFloat32, rows, 2 * heads * half);
  const Matrix cos(Element::kFloat32, rows, half, 2), sin(Element::kFloat32, rows, half, 3);
  const RotaryArguments arguments{.x = x.data(),
                                  .cos = static_cast<const float*>(cos.data()),
                                  .sin = static_cast<const float*>(sin.data()),
                                  .out = out.data(),
                                  .rows = rows,
                                  .row_stride = 2 * heads * half,
                                  .head_stride = 2 * half,
                                  .heads = heads,
                                  .half = half,
                                  .is_inverse = false};
  launch_rotary(arguments, Element::kFloat32, nullptr);
}

/// One row; its first score has no column, being one too far, the others the last ones.
void selected_logprob(int64_t vocabulary, int64_t scores, bool is_backward) {
  const auto element = Element::kFloat32;
  const Matrix logits(element, 1, vocabulary, 1), sums(element, 3, 1, 2), grad(element, 1, scores, 3);
  const Matrix logit(element, 1, scores), results(element, 3, 1);
  std::vector<int64_t> row(static_cast<size_t>(scores), 0), target(row), argmax(1);
  for (size_t s = 0; s < target.size(); ++s) target[s] = vocabulary - static_cast<int64_t>(s);
  for (const auto* const ids : {&row, &target, &argmax})
    launches().memory.add(ids->data(), ids->size() * sizeof(int64_t), true);
  const auto floats = [](const Matrix& matrix, int64_t at) { return static_cast<float*>(matrix.data()) + at; };
  const LogprobRows rows{0, 1, vocabulary, (vocabulary + 3) / 4 * 4, row.data(), target.data(), scores, 1};
  if (!is_backward)
    launch_selected_logprob({rows, floats(logits, 0), floats(logit, 0), floats(results, 0), floats(results, 1),
                             floats(results, 2), argmax.data(), true},
                            nullptr);
  else
    launch_selected_logprob_backward(
        {rows, floats(logits, 0), floats(grad, 0), nullptr, floats(sums, 0), floats(sums, 1)}, element, nullptr);
}

/// A prompt and two answers, so that there are tiles skipped, full and masked; 5 rows less than whole blocks.
test::AttentionCase attention_case(const test::KernelChoice& choice = {}, const ListCut& query_cut = {}) {
  return {test::prompt_and_answers(259, 2, 60), {2, 1, 64}, 0, 0.1f, Element::kFloat32, {}, choice, query_cut};
}
void both_ways(test::AttentionCase& one) {
  one.run();
  one.run_backward();
}
void attention() { attention_case().run(); }
void attention_both_ways() {
  test::AttentionCase one = attention_case();
  both_ways(one);
}
void portable() { attention_case({test::Cores::kPortable}).run(); }
void portable_both_ways() {
  test::AttentionCase one = attention_case({test::Cores::kPortable});
  both_ways(one);
}

/// The longest list's queries, the last and not whole block's, in parts.
void portable_in_parts() {
  test::AttentionCase one = attention_case({test::Cores::kPortable}, {2, 1});
  both_ways(one);
}

/// Leaves, and nodes in several chunks of several steps each.
test::DecodeCase decode_case(Element element) {
  return {test::decoding_forest(2, 5, 400, 70), {4, 1, 64}, element, element, 2};
}
void decode() { decode_case(Element::kBFloat16).run(); }
void decode_plain() { decode_case(Element::kFloat32).run(); }

struct Planted {
  std::string fault;
  std::function<void()> run;
  std::string report;
};

void expect_reports(const std::vector<Planted>& all) {
  for (const Planted& planted : all) {
    SCOPED_TRACE(planted.fault);
    fresh_launches();
    EXPECT_EQ(report_of(planted.run), "nothing was reported");
    plant(planted.fault);
    const std::string report = report_of(planted.run);
    EXPECT_THAT(report, testing::HasSubstr(planted.report));
    EXPECT_THAT(report, testing::HasSubstr(".cu:"));
  }
}

TEST(Faults, EveryOneIsReportedAndNothingElseIs) {
  const std::vector<Planted> all = {
      {"selected_logprob_tail", [] { selected_logprob(70, 3, false); }, "outside every allocation"},
      {"selected_logprob_tile", [] { selected_logprob(70, 3, true); }, "outside every allocation"},
      {"selected_logprob_search", [] { selected_logprob(70, 3, false); }, "outside every allocation"},
      {"selected_logprob_largest", [] { selected_logprob(600, 3, false); }, "shared"},
      {"selected_logprob_sums", [] { selected_logprob(600, 3, false); }, "shared"},
      {"selected_logprob_marks", [] { selected_logprob(600, 3, true); }, "shared"},
      {"selected_logprob_marked", [] { selected_logprob(600, 3, true); }, "shared"},
      {"selected_logprob_mark", [] { selected_logprob(600, 3, true); }, "races: "},
      {"selected_logprob_column", [] { selected_logprob(72, 3, false); }, "outside every allocation"},
      {"selected_logprob_row", [] { selected_logprob(70, 3, true); }, "shared"},
      {"swiglu_tail", [] { swiglu(1, 70, 0); }, "reads outside every allocation"},
      {"swiglu_rows", [] { swiglu(3, 64, 4); }, "reads outside every allocation"},
      {"nf4_tail", [] { nf4(70); }, "outside every allocation"},
      {"nf4_table", [] { nf4(512); }, "shared"},
      {"part_sum_tail", [] { part_sum(70); }, "reads outside every allocation"},
      {"part_sum_parts", [] { part_sum(64); }, "reads outside every allocation"},
      {"rms_norm_before", [] { rms_norm(520, 1024, true); }, "races: "},
      {"rms_norm_after", [] { rms_norm(2, 1024, false); }, "shared"},
      {"rms_norm_width", [] { rms_norm(1, 120, false); }, "reads outside every allocation"},
      {"rms_norm_row", [] { rms_norm(5, 120, false); }, "reads outside every allocation"},
      {"rms_norm_early", [] { rms_norm(5, 32, false); }, "names lanes that have exited"},
      {"rms_norm_columns", [] { rms_norm(20, 32, true); }, "shared"},
      {"rms_norm_partial", [] { rms_norm(20, 32, true); }, "shared"},
      {"rotary_head", [] { rotary(3, 3, 8); }, "allocation"},
      {"rotary_row", [] { rotary(3, 3, 8); }, "reads outside every allocation"},
      {"forward_fence", attention, "no fence made visible to the async proxy"},
      {"forward_values", attention, "while a copy into it is under way"},
      {"forward_early", attention, "races: writes shared"},
      {"forward_scores", attention, "touches a register of a wgmma that was not waited for"},
      {"forward_turn", attention, "the block ends with"},
      {"forward_mask", attention, "reads outside every allocation"},
      {"forward_row", attention, "writes outside every allocation"},
      {"keys_full", attention_both_ways, "while a copy into it is under way"},
      {"keys_early", attention_both_ways, "races: writes shared"},
      {"keys_bytes", attention_both_ways, "while a copy into it is under way"},
      {"keys_mask", attention_both_ways, "is misaligned"},
      {"portable_barrier", portable, "races: "},
      {"portable_wait", portable, "while a copy into it is under way"},
      {"portable_end", portable, "reads outside every allocation"},
      {"portable_row", portable, "writes outside every allocation"},
      {"portable_cut", portable_in_parts, "writes outside every allocation"},
      {"portable_part", portable_in_parts, "writes outside every allocation"},
      {"portable_slot", portable_both_ways, "while a copy into it is under way"},
      {"portable_meet", portable_both_ways, "races: "},
      {"queries_registers", attention_both_ways, "touches a register of a wgmma that was not waited for"}};
  expect_reports(all);
}

TEST(Faults, OfDecodingAreReportedToo) {
  expect_reports({{"decode_barrier", decode, "races: reads shared"},
                  {"decode_reuse", decode, "races: "},
                  {"decode_wait", decode, "while a copy into it is under way"},
                  {"decode_weights", decode_plain, "races: "},
                  {"decode_end", decode, "which nobody has written"},
                  {"decode_row", decode, "races: writes"}});
}

TEST(Faults, ThatOnlyTheReferenceSees) {
  plant("queries_key");
  test::AttentionCase one = attention_case();
  both_ways(one);
  EXPECT_GT(one.gradient_error(), 0.1);
  plant("portable_mask");
  test::AttentionCase other = attention_case({test::Cores::kPortable});
  other.run();
  EXPECT_GT(other.out_error(), 0.05);
  for (const auto& [fault, element] : {std::pair{"decode_tail", Element::kBFloat16},
                                       {"decode_plain_tail", Element::kFloat32},
                                       {"decode_merge", Element::kFloat32}}) {
    plant(fault);
    test::DecodeCase decoding = decode_case(element);
    decoding.run();
    EXPECT_GT(decoding.errors().out, element == Element::kFloat32 ? 1e-3 : 0.02) << fault;
  }
}

}  // namespace
}  // namespace fpdist::kernels
