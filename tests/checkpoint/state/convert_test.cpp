#include "src/checkpoint/state/convert.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "bench/counting_allocator.hpp"
#include "fpdist/core/error.hpp"
#include "tests/checkpoint/expect_holds.hpp"
#include "tests/checkpoint/state/cut_tensors.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using namespace fpdist::test;

/// Masters and moments, other numbers each, of one model.
struct TinyState {
  TinyState() {
    for (const auto& [name, shape] :
         std::vector<std::pair<std::string, std::vector<int64_t>>>{{"model.embed_tokens.weight", {40, 12}},
                                                                   {"model.layers.0.q.weight", {12, 12}},
                                                                   {"model.norm.weight", {12}}}) {
      masters.emplace_back(name, at::randn(shape));
      whole[name + kMaster] = masters.back().second;
      whole[name + kExpAvg] = at::randn(shape);
      whole[name + kExpAvgSq] = at::rand(shape);
      specs.push_back({name, at::kFloat, shape});
    }
  }
  std::vector<TensorSpec> specs_as(at::ScalarType dtype) const {
    std::vector<TensorSpec> cast = specs;
    for (TensorSpec& spec : cast) spec.dtype = dtype;
    return cast;
  }
  NamedTensors masters_as(at::ScalarType dtype) const {
    NamedTensors cast;
    for (const auto& [name, value] : masters) cast.emplace_back(name, value.to(dtype));
    return cast;
  }
  NamedTensors masters;
  WholeState whole;
  std::vector<TensorSpec> specs;
};

void expect_same_files(const std::string& one, const std::string& other) {
  ASSERT_EQ(names_in(one), names_in(other));
  for (const std::string& name : names_in(one)) EXPECT_EQ(slurp(one + "/" + name), slurp(other + "/" + name)) << name;
}

TEST(Convert, AStateBecomesTheDirectoryOfItsMastersByteForByte) {
  const Scratch scratch;
  const TinyState tiny;
  std::filesystem::create_directories(scratch / "model");
  spill(scratch / "model/tokenizer.json", "tokens");
  Random random(3);
  save_state(scratch / "checkpoint-1", deal_pieces(random, tiny.whole, 4),
             {.state_json = "{}", .config_json = "{}", .companions_from = scratch / "model"});
  const TrainingState state(scratch / "checkpoint-1");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble})
    for (const int64_t shard_bytes : {int64_t{1} << 30, int64_t{700}}) {
      const std::string tag = text(dtype, "-", shard_bytes);
      const ExportOptions options{.config_json = "{}", .copy_from = state.directory(), .max_shard_bytes = shard_bytes};
      export_masters(state, tiny.specs_as(dtype), scratch / ("exported-" + tag), options);
      export_hf_directory(scratch / ("whole-" + tag), tiny.masters_as(dtype), options);
      expect_same_files(scratch / ("exported-" + tag), scratch / ("whole-" + tag));
    }
}

TEST(Convert, ADirectoryBecomesAStateWithoutMomentsAndBack) {
  const Scratch scratch;
  const TinyState tiny;
  spill(scratch / "config.json", "{}");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    write_safetensors(scratch / "model.safetensors", tiny.masters_as(dtype));
    const std::string checkpoint = scratch / text("checkpoint-", static_cast<int>(dtype));
    begin_state(HfDirectory(scratch.path()), tiny.specs, checkpoint, {.state_json = "{}", .config_json = "{}"});
    const TrainingState state(checkpoint);
    state.verify(0, 1);
    for (const auto& [name, master] : tiny.masters_as(dtype))
      for (const char* kind : {kMaster, kExpAvg, kExpAvgSq}) {
        at::Tensor got = at::full({master.numel()}, 7.0);
        state.read(name + kind, {.shape = master.sizes().vec(), .size = master.numel()}, got);
        const at::Tensor expected = kind == kMaster ? master.to(at::kFloat) : at::zeros_like(master, at::kFloat);
        EXPECT_TRUE(at::equal(got, expected.reshape({-1}))) << name << kind;
      }
    export_masters(state, tiny.specs_as(dtype), scratch / "back", {.config_json = "{}"});
    expect_holds(scratch / "back", tiny.masters_as(dtype));
  }
}

TEST(Convert, AHeadStandsForATiedEmbedding) {
  const Scratch scratch;
  const at::Tensor head = at::randn({4, 3});
  spill(scratch / "config.json", "{}");
  write_safetensors(scratch / "model.safetensors", {{"lm_head.weight", head}});
  const std::vector<TensorSpec> specs{{"model.embed_tokens.weight", at::kFloat, {4, 3}}};
  begin_state(HfDirectory(scratch.path()), specs, scratch / "checkpoint-0", {"{}", "{}"});
  at::Tensor got = at::zeros({12});
  TrainingState(scratch / "checkpoint-0").read("model.embed_tokens.weight/master", {.shape = {4, 3}, .size = 12}, got);
  EXPECT_TRUE(at::equal(got, head.reshape({-1})));
  const std::vector<TensorSpec> others{{"model.norm.weight", at::kFloat, {3}}};
  expect_words(error_of<ModelFileError>([&] {
                 begin_state(HfDirectory(scratch.path()), others, scratch / "checkpoint-1", {"{}", "{}"});
               }),
               {"model.norm.weight"});
  discard_state(scratch / "checkpoint-1");
  EXPECT_FALSE(std::filesystem::exists(scratch / "checkpoint-1.tmp"));
}

TEST(Convert, ADirectoryIsCutAnewAndIntegersStay) {
  const Scratch scratch;
  const TinyState tiny;
  std::filesystem::create_directories(scratch / "in");
  spill(scratch / "in/config.json", "{}");
  NamedTensors tensors = tiny.masters;
  tensors.emplace_back("steps", at::arange(5));
  tensors.emplace_back("mask", at::arange(5).gt(2));
  write_safetensors(scratch / "in/model.safetensors", tensors);
  const HfDirectory in(scratch / "in");
  export_again(in, std::nullopt, scratch / "same", {.config_json = "{}", .max_shard_bytes = 600});
  expect_holds(scratch / "same", tensors);
  EXPECT_GT(names_in(scratch / "same").size(), 3u);
  EXPECT_EQ(HfDirectory(scratch / "same").file_with("mask").tensors().at("mask").dtype, at::kBool);
  export_again(in, at::kBFloat16, scratch / "half", {.config_json = "{}"});
  tensors = tiny.masters_as(at::kBFloat16);
  tensors.emplace_back("steps", at::arange(5));
  tensors.emplace_back("mask", at::arange(5).gt(2));
  expect_holds(scratch / "half", tensors);
}

TEST(Convert, OneTensorIsInMemory) {
  const Scratch scratch;
  constexpr int64_t kElements = 1 << 18, kBytes = kElements * 4;
  NamedTensors tensors;
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 12; ++i) {
    specs.push_back({"w." + std::to_string(i), at::kFloat, {kElements}});
    tensors.emplace_back(specs.back().name, at::full({kElements}, i, at::kBFloat16));
  }
  std::filesystem::create_directories(scratch / "in");
  spill(scratch / "in/config.json", "{}");
  write_safetensors(scratch / "in/model.safetensors", tensors);
  tensors.clear();
  static bench::CountingAllocator counting;
  static bench::ByteCounter bytes;
  c10::Allocator* before = c10::GetCPUAllocator();
  c10::SetCPUAllocator(&counting, 1);
  bench::thread_counter() = &bytes;
  const auto peak_of = [&](const auto& act) {
    bytes.restart();
    act();
    return bytes.peak();
  };
  const HfDirectory in(scratch / "in");
  EXPECT_LE(peak_of([&] { export_again(in, at::kFloat, scratch / "again", {.config_json = "{}"}); }), 2 * kBytes);
  EXPECT_LE(peak_of([&] { begin_state(in, specs, scratch / "checkpoint-0", {"{}", "{}"}); }), 2 * kBytes);
  const TrainingState state(scratch / "checkpoint-0");
  EXPECT_LE(peak_of([&] { export_masters(state, specs, scratch / "out", {.config_json = "{}"}); }), 2 * kBytes);
  bench::thread_counter() = nullptr;
  c10::SetCPUAllocator(before, 1);
}

}  // namespace
}  // namespace fpdist::checkpoint
