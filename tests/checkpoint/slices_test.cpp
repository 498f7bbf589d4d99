#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::contains, test::error_of, test::Scratch, test::spill;

/// A file whose only tensor "w", float32 [rows, columns] counting up from 0, starts `shift` bytes off its alignment.
std::string counting_file(int rows, int columns, size_t shift) {
  std::string json = R"({"w":{"dtype":"F32","shape":[)" + std::to_string(rows) + "," + std::to_string(columns) +
                     R"(],"data_offsets":[0,)" + std::to_string(rows * columns * 4) + "]}}";
  json.resize((json.size() + 7) / 8 * 8 + shift, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(json.size() >> (8 * i) & 0xff));
  bytes += json;
  for (int i = 0; i < rows * columns; ++i) {
    const auto value = static_cast<float>(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

TEST(SafetensorsSlice, EverySliceOfAnAlignedAndAnUnalignedFileIsThatPart) {
  const Scratch scratch;
  const at::Tensor whole = at::arange(5 * 7, at::kFloat).view({5, 7});
  for (const size_t shift : {0, 1, 2}) {
    spill(scratch / "w.safetensors", counting_file(5, 7, shift));
    const SafetensorsFile file(scratch / "w.safetensors");
    for (const int64_t dim : {0, 1})
      for (int64_t begin = 0; begin <= whole.size(dim); ++begin)
        for (int64_t size = 0; begin + size <= whole.size(dim); ++size)
          EXPECT_TRUE(at::equal(file.slice("w", dim, begin, size), whole.narrow(dim, begin, size)))
              << "shift " << shift << " dim " << dim << " [" << begin << ", + " << size << ")";
  }
}

TEST(SafetensorsSlice, MiddleDimsAndEmptyTensors) {
  const Scratch scratch;
  const at::Tensor cube = at::randn({3, 4, 5});
  write_safetensors(scratch / "f.safetensors",
                    {{"cube", cube}, {"empty", at::empty({0, 4})}, {"scalar", at::ones({})}});
  const SafetensorsFile file(scratch / "f.safetensors");
  EXPECT_TRUE(at::equal(file.slice("cube", 1, 1, 2), cube.narrow(1, 1, 2)));
  EXPECT_TRUE(at::equal(file.slice("cube", 2, 4, 1), cube.narrow(2, 4, 1)));
  EXPECT_EQ(file.slice("empty", 1, 1, 2).sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_THROW(file.slice("scalar", 0, 0, 1), ShapeError);
}

TEST(SafetensorsSlice, IndicesThatTheTensorHasNotAreRefused) {
  const Scratch scratch;
  spill(scratch / "w.safetensors", counting_file(5, 7, 0));
  const SafetensorsFile file(scratch / "w.safetensors");
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_THROW(file.slice("w", 2, 0, 1), ShapeError);
  EXPECT_THROW(file.slice("w", -1, 0, 1), ShapeError);
  EXPECT_THROW(file.slice("w", 0, -1, 1), ShapeError);
  EXPECT_THROW(file.slice("w", 0, 5, 1), ShapeError);
  EXPECT_THROW(file.slice("w", 0, kHuge, 2), ShapeError);
  EXPECT_THROW(file.slice("w", 0, 1, kHuge), ShapeError);
  EXPECT_THROW(file.slice("w", 0, 0, -1), ShapeError);
  EXPECT_THROW(file.slice("v", 0, 0, 1), ModelFileError);
}

class DirectorySlices : public testing::Test {
 protected:
  DirectorySlices() {
    spill(scratch_ / "config.json", "{}");
    write_safetensors(scratch_ / "model.safetensors",
                      {{"w", whole_}, {"b", whole_.select(1, 0)}, {"count", at::ones({2, 2}, at::kLong)}});
  }
  Scratch scratch_;
  at::Tensor whole_ = at::randn({6, 9}).to(at::kBFloat16);
};

TEST_F(DirectorySlices, AreReadIntoAnyFloatDtype) {
  const HfDirectory directory(scratch_.path());
  const std::vector<int64_t> full{6, 9};
  at::Tensor rows = at::empty({2, 9}, at::kDouble).set_requires_grad(true), columns = at::empty({6, 4});
  at::Tensor all = at::empty({6, 9}), bias = at::empty({3}), none = at::empty({0, 9});
  directory.read_slice_into("w", full, 0, 4, rows);
  EXPECT_TRUE(at::equal(rows.detach(), whole_.narrow(0, 4, 2).to(at::kDouble)));
  directory.read_slice_into("w", full, 1, 5, columns);
  EXPECT_TRUE(at::equal(columns, whole_.narrow(1, 5, 4).to(at::kFloat)));
  directory.read_slice_into("w", full, -1, 0, all);
  EXPECT_TRUE(at::equal(all, whole_.to(at::kFloat)));
  directory.read_slice_into("b", {6}, 0, 3, bias);
  EXPECT_TRUE(at::equal(bias, whole_.select(1, 0).narrow(0, 3, 3).to(at::kFloat)));
  directory.read_slice_into("w", full, 0, 6, none);
}

TEST_F(DirectorySlices, AreRefusedAsWholeTensorsAre) {
  const HfDirectory directory(scratch_.path());
  at::Tensor rows = at::empty({2, 9});
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] {
                         directory.read_slice_into("w", {8, 9}, 0, 0, rows);
                       }),
                       "has shape [6, 9], config.json asks for [8, 9]"));
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] {
                         directory.read_slice_into("v", {6, 9}, 0, 0, rows);
                       }),
                       "hold no \"v\""));
  at::Tensor counts = at::empty({1, 2});
  EXPECT_TRUE(contains(error_of<ModelFileError>([&] {
                         directory.read_slice_into("count", {2, 2}, 0, 0, counts);
                       }),
                       "quantised"));
  EXPECT_THROW(directory.read_slice_into("w", {6, 9}, 0, 5, rows), ShapeError);
  EXPECT_THROW(directory.read_slice_into("w", {6, 9}, 1, 0, rows), ShapeError);
  EXPECT_THROW(directory.read_slice_into("w", {6, 9}, 2, 0, rows), ShapeError);
  EXPECT_THROW(directory.read_slice_into("w", {6, 9}, -1, 0, rows), ShapeError);
}

}  // namespace
}  // namespace fpdist::checkpoint
