// Weights of bitsandbytes in a directory that transformers wrote (tests/golden/make_nf4_golden.py), and damaged ones.

#include "src/checkpoint/nf4_tensors.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

const std::string kGolden = FPDIST_SOURCE_DIR "/tests/golden/model_llama_nf4";
const std::string kWeight = "model.layers.0.self_attn.k_proj.weight";

TEST(Nf4Tensors, AreTheWeightsThatBitsandbytesGivesBack) {
  const HfDirectory quantized(kGolden), plain(kGolden + "_back");
  int count = 0;
  for (const std::string& name : plain.names()) {
    if (!holds_quantized(quantized, name)) continue;
    ++count;
    ops::QuantizedWeight weight;
    weight.matrix = read_nf4(quantized, name, plain.shape(name)), weight.dtype = at::kBFloat16;
    EXPECT_EQ(weight.matrix.stored, at::kBFloat16);
    EXPECT_TRUE(weight.matrix.is_nested());
    EXPECT_TRUE(at::equal(weight.value(), plain.file_with(name).tensor(name))) << name;
  }
  EXPECT_EQ(count, 13);
  EXPECT_FALSE(holds_quantized(quantized, "model.layers.1.self_attn.o_proj.weight"));
  EXPECT_GT(quantized.parts_read().size(), 13U * 5);  // what ranks compare
}

/// What is said of a weight whose tensors `change` has changed.
template <typename Change>
std::string fault(const test::Scratch& scratch, Change change) {
  const HfDirectory golden(kGolden);
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : golden.names())
    if (name.starts_with(kWeight)) tensors[name] = golden.file_with(name).tensor(name);
  change(tensors);
  const std::string folder = scratch / "damaged";
  export_hf_directory(folder, NamedTensors(tensors.begin(), tensors.end()), {.config_json = golden.config_json()});
  return test::refusal<ModelFileError>([&] { (void)read_nf4(HfDirectory(folder), kWeight, {32, 64}); });
}

at::Tensor text_tensor(const std::string& words) {
  return at::from_blob(const_cast<char*>(words.data()), {static_cast<int64_t>(words.size())}, at::kByte).clone();
}

TEST(Nf4Tensors, WhatIsMissingOrOfAnotherFormatIsSaidInOneLine) {
  const test::Scratch scratch;
  using Tensors = std::map<std::string, at::Tensor>;
  const std::string state = kWeight + ".quant_state.bitsandbytes__nf4";
  EXPECT_EQ(fault(scratch, [](Tensors&) {}), "accepted");
  test::expect_words(fault(scratch, [&](Tensors& all) { all.erase(kWeight + ".absmax"); }),
                     {kWeight, "lacks its absmax"});
  test::expect_words(fault(scratch, [&](Tensors& all) { all.erase(state); }), {"lacks its quant_state"});
  test::expect_words(fault(scratch,
                           [&](Tensors& all) {
                             all[kWeight] = at::zeros({7, 1}, at::kByte);
                           }),
                     {"7 bytes for 2048 elements"});
  test::expect_words(fault(scratch, [&](Tensors& all) { all[kWeight + ".quant_map"] = at::zeros({16}); }),
                     {"quant_map"});
  test::expect_words(fault(scratch, [&](Tensors& all) { all[kWeight + ".nested_absmax"] = at::zeros({2}); }),
                     {"2 Float in nested_absmax, needs 1 Float"});
  test::expect_words(fault(scratch, [&](Tensors& all) { all[state] = text_tensor("[3"); }), {state});
  test::expect_words(fault(scratch, [&](Tensors& all) { all[state] = text_tensor("{}"); }), {"not understood"});
  test::expect_words(fault(scratch, [&](Tensors& all) { all[state] = at::zeros({3}); }),
                     {"quant_state that is no text"});
  const auto with_state = [&](const std::string& fields) {
    return fault(scratch, [&](Tensors& all) { all[state] = text_tensor("{" + fields + "}"); });
  };
  test::expect_words(with_state(R"("quant_type": "nf4", "shape": [64, 64])"), {"[64,64]", "asks for [32,64]"});
  test::expect_words(with_state(R"("quant_type": "nf4", "shape": [32, 64], "blocksize": 12, "dtype": "float16")"),
                     {"blocks of 12"});
  test::expect_words(with_state(R"("quant_type": "nf4", "shape": [32, 64], "blocksize": 64, "dtype": "int8")"),
                     {"from int8"});
  test::expect_words(
      fault(scratch, [&](Tensors& all) { all[kWeight + ".quant_state.bitsandbytes__fp4"] = at::zeros({1}); }),
      {"fp4", "in nf4"});
}

}  // namespace
}  // namespace fpdist::checkpoint
