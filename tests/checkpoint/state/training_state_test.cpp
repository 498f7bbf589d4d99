#include "src/checkpoint/state/training_state.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/checkpoint/state/cut_tensors.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using namespace fpdist::test;

bool same_bits(const at::Tensor& one, const at::Tensor& other) {
  return one.sizes() == other.sizes() && one.scalar_type() == other.scalar_type() &&
         std::memcmp(one.const_data_ptr(), other.const_data_ptr(), one.nbytes()) == 0;
}

std::vector<StatePiece> whole_pieces(const WholeState& state) {
  std::vector<StatePiece> pieces;
  for (const auto& [name, whole] : state)
    pieces.push_back({name, {.shape = whole.sizes().vec(), .size = whole.numel()}, whole.reshape({-1})});
  return pieces;
}

TEST(TrainingState, AnyMeshReadsWhatAnyMeshSavedBitForBit) {
  const Scratch scratch;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(text("seed ", seed));
    Random random(seed);
    const WholeState state = draw_state(random, 4);
    const std::string directory = scratch / text("checkpoint-", seed);
    const int64_t ranks = draw(random, 1, 6);
    save_state(directory, deal_pieces(random, state, ranks));
    const TrainingState saved(directory);
    EXPECT_EQ(saved.ranks(), ranks);
    for (int part = 0; part < 3; ++part) saved.verify(part, 3);
    EXPECT_EQ(saved.names().size(), state.size());
    for (const auto& [name, whole] : state) {
      EXPECT_EQ(saved.shape(name), whole.sizes());
      EXPECT_EQ(saved.dtype(name), whole.scalar_type());
      for (int mesh = 0; mesh < 3; ++mesh)
        for (const Region& region : draw_cut(random, whole)) {
          at::Tensor got = at::zeros({region.size}, whole.scalar_type());
          saved.read(name, region, got);
          EXPECT_TRUE(same_bits(got, elements_of(whole, region))) << name << " dim " << region.dim;
        }
    }
  }
}

TEST(TrainingState, ReadsCastAsCopiesDo) {
  const Scratch scratch;
  Random random(7);
  const at::Tensor whole = at::randn({1500, 1100});  // more than a block of the cast
  save_state(scratch / "checkpoint-1", deal_pieces(random, {{"w", whole}}, 3));
  const TrainingState saved(scratch / "checkpoint-1");
  for (const at::ScalarType dtype : {at::kBFloat16, at::kDouble, at::kFloat}) {
    at::Tensor strided = at::zeros({whole.numel(), 2}, dtype).select(1, 0);
    saved.read("w", {.shape = {1500, 1100}, .size = whole.numel()}, strided);
    EXPECT_TRUE(at::equal(strided, whole.reshape({-1}).to(dtype)));
  }
}

TEST(TrainingState, TextsAndCompanionsGoAlong) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch / "model/additional_chat_templates");
  spill(scratch / "model/tokenizer.json", "tokens");
  spill(scratch / "model/additional_chat_templates/rag.jinja", "rag");
  spill(scratch / "model/model.safetensors", "no companion");
  Random random(3);
  save_state(scratch / "checkpoint-5", deal_pieces(random, draw_state(random, 2), 2),
             {.state_json = "{\"a\": 1}",
              .config_json = "{\"b\": 2}",
              .settings_yaml = "train: {}\n",
              .companions_from = scratch / "model"});
  const TrainingState saved(scratch / "checkpoint-5/");
  EXPECT_EQ(saved.state_json(), "{\"a\": 1}");
  EXPECT_EQ(saved.config_json(), "{\"b\": 2}");
  EXPECT_EQ(names_in(scratch / "checkpoint-5"),
            (std::vector<std::string>{"additional_chat_templates", "config.json", "config.resolved.yaml",
                                      "manifest.json", "shard-00000-of-00002.safetensors",
                                      "shard-00001-of-00002.safetensors", "state.json", "tokenizer.json"}));
  EXPECT_EQ(slurp(scratch / "checkpoint-5/additional_chat_templates/rag.jinja"), "rag");
  EXPECT_EQ(slurp(scratch / "checkpoint-5/config.resolved.yaml"), "train: {}\n");
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"checkpoint-5", "model"}));
  save_state(scratch / "checkpoint-5", deal_pieces(random, draw_state(random, 2), 1));  // without any
  EXPECT_EQ(
      names_in(scratch / "checkpoint-5"),
      (std::vector<std::string>{"config.json", "manifest.json", "shard-00000-of-00001.safetensors", "state.json"}));
  remove_state(scratch / "checkpoint-5");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"model"});
}

TEST(TrainingState, WhatIsNotThereOrOfAnotherShapeIsNamed) {
  const Scratch scratch;
  save_state(scratch / "checkpoint-1", {whole_pieces({{"w", at::ones({2, 3})}})});
  const TrainingState saved(scratch / "checkpoint-1");
  at::Tensor six = at::zeros({6}), four = at::zeros({4});
  const auto refusal_of = [&](const std::string& name, const Region& region, at::Tensor& into) {
    return error_of<ModelFileError>([&] { saved.read(name, region, into); });
  };
  expect_words(refusal_of("v", {.shape = {2, 3}, .size = 6}, six), {"checkpoint-1", "\"v\"", "another model"});
  expect_words(refusal_of("w", {.shape = {3, 2}, .size = 6}, six), {"\"w\"", "[2, 3]", "[3, 2]"});
  EXPECT_THROW(saved.read("w", {.shape = {2, 3}, .size = 7}, six), ShapeError);
  EXPECT_THROW(saved.read("w", {.shape = {2, 3}, .dim = 2, .extent = 1, .size = 6}, six), ShapeError);
  EXPECT_THROW(saved.read("w", {.shape = {2, 3}, .size = 6}, four), ShapeError);
}

TEST(TrainingState, OneTensorIsInMemoryWhereTheyAreFetched) {
  const Scratch scratch;
  const std::vector<PieceSpec> specs{{"a", at::kBFloat16, {.shape = {5}, .size = 5}},
                                     {"b", at::kFloat, {.shape = {2, 2}, .size = 4}}};
  at::Tensor last;
  const StateFile file = write_state_shard(scratch / "checkpoint-1", 0, 1, specs, [&](size_t piece) {
    EXPECT_TRUE(!last.defined() || last.use_count() == 1);
    last = at::full({specs[piece].region.size}, static_cast<double>(piece), specs[piece].dtype);
    return last;
  });
  commit_state(scratch / "checkpoint-1", {&file, 1}, {"{}", "{}"});
  const TrainingState saved(scratch / "checkpoint-1");
  saved.verify(0, 1);
  at::Tensor b = at::zeros({4});
  saved.read("b", specs[1].region, b);
  EXPECT_TRUE(at::equal(b, at::ones({4})));
}

TEST(TrainingState, ValuesThatDoNotFitTheirRegionsAreRefusedAndLeaveNothing) {
  const Scratch scratch;
  const Region six{.shape = {2, 3}, .size = 6};
  const auto refused = [&](const Region& region, const at::Tensor& value) {
    const StatePiece piece{"w", region, value};
    EXPECT_THROW(write_state_shard(scratch / "checkpoint-1", 0, 1, {&piece, 1}), ShapeError);
    discard_state(scratch / "checkpoint-1");
    EXPECT_TRUE(names_in(scratch.path()).empty());
  };
  refused(six, {});
  refused(six, at::ones({5}));
  refused(six, at::ones({2, 3}));
  refused(six, at::ones({12}).slice(0, 0, 12, 2));
  refused({.shape = {2, 3}, .size = 7}, at::ones({7}));
  refused({.shape = {2, 3}, .dim = 1, .from = 2, .extent = 2, .size = 4}, at::ones({4}));
  refused({.shape = {-2, 3}, .size = 0}, at::ones({0}));
  refused({.shape = std::vector<int64_t>(9, int64_t{1} << 40), .size = 1}, at::ones({1}));
  refused({.shape = {1}, .size = 1}, at::ones({1}, at::kComplexFloat));
}

TEST(FindStates, NewestFirstWithTheFaultOfEach) {
  const Scratch scratch;
  Random random(5);
  for (const int step : {2, 10, 30, 4})
    save_state(scratch / text("checkpoint-", step), deal_pieces(random, draw_state(random, 2), 2));
  std::filesystem::remove(scratch / "checkpoint-10/manifest.json");
  std::filesystem::resize_file(scratch / "checkpoint-30/shard-00001-of-00002.safetensors", 20);
  std::string newer = slurp(scratch / "checkpoint-4/manifest.json");
  newer.replace(newer.find("\"format\": 1"), 11, "\"format\": 2");
  spill(scratch / "checkpoint-4/manifest.json", newer);
  for (const char* name :
       {"checkpoint-7.tmp", "checkpoint-07", "checkpoint-", "checkpoint-x", "final", "checkpoint--1"})
    std::filesystem::create_directories(scratch / name);
  spill(scratch / "checkpoint-8", "a file");
  const std::vector<FoundState> found = find_states(scratch.path());
  std::vector<int64_t> steps;
  for (const FoundState& state : found) steps.push_back(state.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{30, 10, 4, 2}));
  expect_words(found[0].fault, {"shard-00001-of-00002.safetensors", "20 bytes"});
  expect_words(found[1].fault, {"checkpoint-10", "no manifest.json"});
  expect_words(found[2].fault, {"checkpoint-4", "format 2 is newer"});
  EXPECT_TRUE(found[2].is_newer && !found[0].is_newer && !found[1].is_newer);
  EXPECT_EQ(found[3].fault, "");
  EXPECT_EQ(found[3].directory, scratch / "checkpoint-2");
  EXPECT_TRUE(find_states(scratch / "nowhere").empty());
}

TEST(RemoveState, TakesWhatIsACheckpointsAndNothingElse) {
  const Scratch scratch;
  Random random(5);
  save_state(scratch / "checkpoint-1", deal_pieces(random, draw_state(random, 2), 2));
  save_state(scratch / "checkpoint-2", deal_pieces(random, draw_state(random, 2), 2));
  spill(scratch / "checkpoint-2/notes.txt", "mine");
  remove_state(scratch / "checkpoint-1");
  remove_state(scratch / "checkpoint-2");
  remove_state(scratch / "checkpoint-3");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"checkpoint-2"});
  EXPECT_EQ(names_in(scratch / "checkpoint-2"), std::vector<std::string>{"notes.txt"});
}

TEST(CommitState, ReplacesAnOlderOneAndLeavesFilesThatAreNoCheckpoints) {
  const Scratch scratch;
  Random random(5);
  save_state(scratch / "checkpoint-1", deal_pieces(random, draw_state(random, 2), 3), {"old", "{}"});
  spill(scratch / "checkpoint-1/notes.txt", "mine");
  write_state_shard(scratch / "checkpoint-1", 4, 5, std::vector<StatePiece>{});  // of a killed run of another size
  save_state(scratch / "checkpoint-1", deal_pieces(random, draw_state(random, 2), 2), {"new", "{}"});
  EXPECT_EQ(TrainingState(scratch / "checkpoint-1").state_json(), "new");
  EXPECT_EQ(names_in(scratch / "checkpoint-1"),
            (std::vector<std::string>{"config.json", "manifest.json", "notes.txt", "shard-00000-of-00002.safetensors",
                                      "shard-00001-of-00002.safetensors", "state.json"}));
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"checkpoint-1"});
}

TEST(CommitState, AShardThatIsNotHereIsADisksFault) {
  const Scratch scratch;
  const StateFile here = write_state_shard(scratch / "checkpoint-1", 0, 2, std::vector<StatePiece>{});
  const std::vector<StateFile> shards{here, {"shard-00001-of-00002.safetensors", here.size, here.xxh3_128}};
  expect_words(error_of<DiskError>([&] {
                 commit_state(scratch / "checkpoint-1", shards, {"{}", "{}"});
               }),
               {"shard-00001-of-00002", "all nodes share"});
  EXPECT_TRUE(find_states(scratch.path()).empty());
}

}  // namespace
}  // namespace fpdist::checkpoint
