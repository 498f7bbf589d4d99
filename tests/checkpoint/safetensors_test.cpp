#include "fpdist/checkpoint/safetensors.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fpdist/core/error.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::contains, test::error_of, test::FileSizeLimit, test::names_in, test::Scratch, test::slurp, test::spill;

TEST(Safetensors, EveryDtypeComesBackBitForBit) {
  const Scratch scratch;
  NamedTensors tensors;
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kDouble, at::kHalf, at::kLong, at::kInt, at::kShort,
                           at::kChar, at::kByte, at::kFloat8_e4m3fn}) {
    // Odd sizes, so that tensors written in this order would not be aligned.
    tensors.emplace_back(std::string("weight.") + c10::toString(dtype), (at::randn({3, 5}) * 10).to(dtype));
  }
  tensors.emplace_back("empty", at::empty({0, 7}));
  tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  tensors.emplace_back("strided", at::randn({4, 6}).t());
  write_safetensors(scratch / "a.safetensors", tensors);
  const SafetensorsFile file(scratch / "a.safetensors");
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (const auto& [name, expected] : tensors) {
    const at::Tensor got = file.tensor(name);
    EXPECT_EQ(got.scalar_type(), expected.scalar_type()) << name;
    ASSERT_EQ(got.sizes(), expected.sizes()) << name;
    const at::Tensor dense = expected.contiguous();
    EXPECT_EQ(got.nbytes(), dense.nbytes());
    EXPECT_EQ(std::string(static_cast<const char*>(got.const_data_ptr()), got.nbytes()),
              std::string(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()))
        << name;
    EXPECT_EQ(file.tensors().at(name).begin % got.element_size(), 0u) << name;
  }
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a.safetensors"});
}

TEST(Safetensors, BoolsKeepTheirNameAndAreReadAsBytes) {
  const Scratch scratch;
  write_safetensors(scratch / "a.safetensors", {{"mask", at::tensor({1, 0, 1}).to(at::kBool)}});
  const SafetensorsFile file(scratch / "a.safetensors");
  EXPECT_EQ(file.tensors().at("mask").dtype, at::kBool);
  EXPECT_TRUE(at::equal(file.tensor("mask"), at::tensor({1, 0, 1}, at::kByte)));
  EXPECT_TRUE(at::equal(file.slice("mask", 0, 1, 2), at::tensor({0, 1}, at::kByte)));
}

TEST(Safetensors, HeaderIsAlignedAndStartsTheFile) {
  const Scratch scratch;
  write_safetensors(scratch / "a.safetensors", {{"w", at::ones({2})}});
  const std::string bytes = slurp(scratch / "a.safetensors");
  EXPECT_EQ(bytes[8], '{');
  EXPECT_EQ((bytes.size() - 8) % 8, 0u);
}

TEST(Safetensors, ATensorOutlivesItsFile) {
  const Scratch scratch;
  write_safetensors(scratch / "a.safetensors", {{"w", at::arange(6, at::kFloat)}});
  at::Tensor kept;
  {
    const SafetensorsFile file(scratch / "a.safetensors");
    kept = file.tensor("w");
  }
  std::filesystem::remove(scratch / "a.safetensors");
  EXPECT_TRUE(at::equal(kept, at::arange(6, at::kFloat)));
}

TEST(Safetensors, AnUnalignedTensorIsCopied) {
  const Scratch scratch;
  // Header of 71 bytes: the data starts at an odd byte.
  std::string json = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  json.resize(71, ' ');
  const float values[] = {1.5f, -2.0f};
  spill(scratch / "odd.safetensors",
        std::string("\x47\0\0\0\0\0\0\0", 8) + json + std::string(reinterpret_cast<const char*>(values), 8));
  const at::Tensor got = SafetensorsFile(scratch / "odd.safetensors").tensor("w");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(got.const_data_ptr()) % 4, 0u);
  EXPECT_TRUE(at::equal(got, at::tensor({1.5f, -2.0f})));
}

TEST(Safetensors, AnUnknownNameIsAnError) {
  const Scratch scratch;
  write_safetensors(scratch / "a.safetensors", {{"w", at::ones({2})}});
  const SafetensorsFile file(scratch / "a.safetensors");
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] { file.tensor("v"); }), "holds no tensor \"v\""));
}

TEST(SafetensorsWriter, RefusesWhatTheFormatCannotHold) {
  const Scratch scratch;
  const at::Tensor one = at::ones({1});
  EXPECT_THROW(write_safetensors(scratch / "a", {{"w", at::ones({1}, at::kComplexFloat)}}), ShapeError);
  EXPECT_THROW(write_safetensors(scratch / "a", {{"w", one}, {"w", one}}), ShapeError);
  EXPECT_THROW(write_safetensors(scratch / "a", {{"__metadata__", one}}), ShapeError);
  EXPECT_THROW(write_safetensors(scratch / "a", {{"w", at::Tensor()}}), ShapeError);
  EXPECT_TRUE(names_in(scratch.path()).empty());
}

TEST(SafetensorsWriter, AFullDiskLeavesTheOldFileAndNothingElse) {
  const Scratch scratch;
  write_safetensors(scratch / "a.safetensors", {{"w", at::ones({2})}});
  const std::string before = slurp(scratch / "a.safetensors");
  std::string what;
  {
    const FileSizeLimit limit(16 << 10);
    what = error_of<DiskError>([&] { write_safetensors(scratch / "a.safetensors", {{"w", at::ones({8192})}}); });
  }
  EXPECT_TRUE(contains(what, "a.safetensors") && contains(what, "free space")) << what;
  EXPECT_EQ(slurp(scratch / "a.safetensors"), before);
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a.safetensors"});
}

TEST(SafetensorsWriter, ADeviceWithoutSpaceIsADiskError) {
  const Scratch scratch;
  ASSERT_EQ(::symlink("/dev/full", (scratch / "a").c_str()), 0);
  const std::string what = error_of<DiskError>([&] { write_safetensors(scratch / "a", {{"w", at::ones({2})}}); });
  EXPECT_TRUE(contains(what, "No space left")) << what;
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"a"});
}

TEST(SafetensorsWriter, AMissingFolderOrADirectoryInTheWayIsADiskError) {
  const Scratch scratch;
  EXPECT_THROW(write_safetensors(scratch / "no/such/a", {{"w", at::ones({2})}}), DiskError);
  std::filesystem::create_directories(scratch / "taken/inside");
  EXPECT_THROW(write_safetensors(scratch / "taken", {{"w", at::ones({2})}}), DiskError);
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"taken"});
}

}  // namespace
}  // namespace fpdist::checkpoint
