#include "fpdist/checkpoint/hf_directory.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::contains, test::error_of, test::Scratch, test::spill;

std::string refusal(const Scratch& scratch) {
  return error_of<ModelFileError>([&] { HfDirectory directory(scratch.path()); });
}

TEST(HfDirectory, EveryMissingPieceIsNamedWithItsCure) {
  const Scratch scratch;
  EXPECT_TRUE(
      contains(error_of<ModelFileError>([&] { HfDirectory directory(scratch / "none"); }), "is not a directory"));
  EXPECT_TRUE(contains(refusal(scratch), "config.json: missing"));
  spill(scratch / "config.json", "{}");
  EXPECT_TRUE(contains(refusal(scratch), "copy the weights there"));
  spill(scratch / "manifest.json", "{}");
  EXPECT_TRUE(contains(refusal(scratch), "fpdist_export " + scratch.path() + " MODEL"));
  spill(scratch / "pytorch_model.bin", "");
  EXPECT_TRUE(contains(refusal(scratch), "save it again with save_pretrained"));
  spill(scratch / "model.safetensors.index.json", R"({"weight_map":{"w":"model-1.safetensors"}})");
  EXPECT_TRUE(contains(refusal(scratch), "model-1.safetensors: missing"));
  write_safetensors(scratch / "model-1.safetensors", {{"v", at::ones({1})}});
  EXPECT_TRUE(contains(refusal(scratch), "holds no \"w\""));
  write_safetensors(scratch / "model-1.safetensors", {{"w", at::ones({1})}});
  EXPECT_TRUE(HfDirectory(scratch.path()).contains("w"));
  spill(scratch / "model.safetensors", "damaged");
  EXPECT_TRUE(contains(refusal(scratch), "model.safetensors: 7 bytes"));
}

TEST(HfDirectory, AHostileIndexIsRefused) {
  const Scratch scratch;
  spill(scratch / "config.json", "{}");
  for (const char* index :
       {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})", R"({"weight_map":{"w":3}})",
        R"({"weight_map":{"w":"../model.safetensors"}})", R"({"weight_map":{"w":""}})", R"({"weight_map":{"w":".."}})",
        R"({"weight_map":{"w":"a\u0000b"}})", R"({"weight_map":{"w":"a","w":"b"}})"}) {
    spill(scratch / "model.safetensors.index.json", index);
    EXPECT_TRUE(contains(refusal(scratch), "model.safetensors.index.json")) << index;
  }
}

TEST(HfDirectory, AnIndexMayNotPointOutOfItsDirectory) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch / "model");
  write_safetensors(scratch / "outside.safetensors", {{"w", at::ones({1})}});
  spill(scratch / "model/config.json", "{}");
  spill(scratch / "model/model.safetensors.index.json", R"({"weight_map":{"w":"../outside.safetensors"}})");
  const std::string what = error_of<ModelFileError>([&] { HfDirectory directory(scratch / "model"); });
  EXPECT_TRUE(contains(what, "not a plain file name")) << what;
}

TEST(HfDirectory, NamesAreFoundWithAndWithoutTheirPrefix) {
  const Scratch scratch;
  spill(scratch / "config.json", "{}");
  write_safetensors(scratch / "model.safetensors", {{"norm.weight", at::full({2}, 1.0)},
                                                    {"model.model.embed_tokens.weight", at::full({2}, 2.0)},
                                                    {"model.lm_head.weight", at::full({2}, 3.0)},
                                                    {"model.both", at::full({2}, 4.0)},
                                                    {"both", at::full({2}, 5.0)},
                                                    {"visual.weight", at::ones({2})}});
  const HfDirectory directory(scratch.path());
  const auto value = [&](const std::string& name) {
    at::Tensor read = at::empty({2});
    directory.read_into(name, read);
    return read[0].item<double>();
  };
  EXPECT_EQ(value("model.norm.weight"), 1);
  EXPECT_EQ(value("model.embed_tokens.weight"), 2);
  EXPECT_EQ(value("lm_head.weight"), 3);
  EXPECT_EQ(value("model.both"), 4) << "its own name first";
  EXPECT_FALSE(directory.contains("model.layers.0"));
  EXPECT_EQ(directory.names_besides({"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight", "model.both"}),
            (std::vector<std::string>{"both", "visual.weight"}));
}

TEST(HfDirectory, EqualTensorsAreEqualToTheLastRow) {
  const Scratch scratch;
  spill(scratch / "config.json", "{}");
  const at::Tensor tall = at::arange(6000).reshape({3000, 2});
  at::Tensor other = tall.clone();
  other[2999][1] = -1;
  write_safetensors(scratch / "model.safetensors", {{"a", tall},
                                                    {"same", tall.clone()},
                                                    {"other", other},
                                                    {"short", tall.narrow(0, 0, 5).clone()},
                                                    {"wide", tall.to(at::kDouble)},
                                                    {"scalar", at::ones({})},
                                                    {"one", at::ones({})}});
  const HfDirectory directory(scratch.path());
  EXPECT_TRUE(directory.are_equal("a", "same"));
  EXPECT_TRUE(directory.are_equal("scalar", "one"));
  for (const char* name : {"other", "short", "wide", "scalar"}) EXPECT_FALSE(directory.are_equal("a", name)) << name;
}

TEST(HfDirectory, ReadsIntoAnyFloatDtype) {
  const Scratch scratch;
  const at::Tensor half = at::randn({3, 4}).to(at::kBFloat16);
  spill(scratch / "config.json", "{}");
  write_safetensors(scratch / "model.safetensors", {{"w", half}, {"count", at::ones({2}, at::kLong)}});
  const HfDirectory directory(scratch.path());
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"count", "w"}));
  at::Tensor wide = at::empty({3, 4}, at::kDouble).set_requires_grad(true);  // a leaf, as parameters are
  directory.read_into("w", wide);
  EXPECT_TRUE(at::equal(wide.detach(), half.to(at::kDouble)));
  at::Tensor wrong = at::empty({4, 3}), integers = at::empty({2});
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] { directory.read_into("w", wrong); }),
                       "has shape [3, 4], config.json asks for [4, 3]"));
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] { directory.read_into("absent", wrong); }), "hold no \"absent\""));
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] { directory.read_into("count", integers); }), "quantised"));
}

}  // namespace
}  // namespace fpdist::checkpoint
