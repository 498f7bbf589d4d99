#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "tests/checkpoint/expect_holds.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::error_of, test::expect_holds, test::FileSizeLimit, test::names_in, test::Scratch, test::slurp;

/// Elements of 4, 8 and 2 bytes in turn, so that the file's order is not the list's.
struct Model {
  Model() {
    for (int i = 0; i < 7; ++i) {
      value.push_back(at::randn({i + 1, 8}).to(i % 3 == 0 ? at::kFloat : i % 3 == 1 ? at::kDouble : at::kBFloat16));
      specs.push_back({"layer." + std::to_string(i), value.back().scalar_type(), value.back().sizes().vec()});
    }
  }
  NamedTensors named() const {
    NamedTensors tensors;
    for (size_t i = 0; i < value.size(); ++i) tensors.emplace_back(specs[i].name, value[i]);
    return tensors;
  }
  std::vector<at::Tensor> value;
  std::vector<TensorSpec> specs;
};

TEST(StreamingExport, TensorsAreAskedForOnceInListOrderAndOnlyOneIsAlive) {
  for (const int64_t shard : {int64_t{1} << 30, int64_t{200}}) {
    const Scratch scratch;
    const Model model;
    std::vector<size_t> asked;
    at::Tensor last;
    const auto fetch = [&](size_t index) {
      EXPECT_TRUE(!last.defined() || last.use_count() == 1) << "tensor " << index - 1 << " is still held";
      asked.push_back(index);
      last = model.value[index].clone();
      return last;
    };
    const ExportOptions options{.config_json = "{}", .max_shard_bytes = shard};
    export_hf_directory(scratch / "streamed", model.specs, fetch, options);
    EXPECT_EQ(asked, (std::vector<size_t>{0, 1, 2, 3, 4, 5, 6}));
    export_hf_directory(scratch / "whole", model.named(), options);
    ASSERT_EQ(names_in(scratch / "streamed"), names_in(scratch / "whole"));
    for (const std::string& name : names_in(scratch / "whole"))
      EXPECT_EQ(slurp(scratch / ("streamed/" + name)), slurp(scratch / ("whole/" + name))) << name;
    expect_holds(scratch / "streamed", model.named());
  }
}

TEST(StreamingExport, AFetchThatThrowsLeavesNothingAndAnOlderExportAsItWas) {
  const Scratch scratch;
  const Model model;
  const auto fetch = [&](size_t index) {
    if (index == 4) throw std::runtime_error("a peer was lost");
    return model.value[index];
  };
  const ExportOptions options{.config_json = "{}", .max_shard_bytes = 200};
  EXPECT_EQ(error_of<std::runtime_error>([&] { export_hf_directory(scratch / "out", model.specs, fetch, options); }),
            "a peer was lost");
  EXPECT_TRUE(names_in(scratch.path()).empty());
  export_hf_directory(scratch / "out", model.named(), {.config_json = "old"});
  EXPECT_THROW(export_hf_directory(scratch / "out", model.specs, fetch, options), std::runtime_error);
  EXPECT_EQ(names_in(scratch / "out"), (std::vector<std::string>{"config.json", "model.safetensors"}));
  EXPECT_EQ(slurp(scratch / "out/config.json"), "old");
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"out"});
}

TEST(StreamingExport, TensorsAndSpecsThatDoNotFitAreRefused) {
  const Scratch scratch;
  const Model model;
  const auto refused = [&](std::vector<TensorSpec> specs, const FetchTensor& fetch) {
    EXPECT_THROW(export_hf_directory(scratch / "out", specs, fetch, {.config_json = "{}", .max_shard_bytes = 64}),
                 ShapeError);
    EXPECT_TRUE(names_in(scratch.path()).empty());
  };
  const auto right = [&](size_t index) { return model.value[index]; };
  refused(model.specs, [&](size_t index) { return model.value[index].t(); });
  refused(model.specs, [&](size_t index) { return model.value[index].to(at::kHalf); });
  refused(model.specs, [](size_t) { return at::Tensor(); });
  auto specs = model.specs;
  specs[5].name = specs[0].name;  // in another shard
  refused(specs, right);
  specs = model.specs;
  specs[1].name = "__metadata__";
  refused(specs, right);
  specs = model.specs;
  specs[1].shape[0] = -2;
  refused(specs, right);
  specs = model.specs;
  specs[1].dtype = at::kComplexFloat;
  refused(specs, right);
}

TEST(StreamingExport, AFullDiskLeavesNothing) {
  const Scratch scratch;
  const FileSizeLimit limit(4 << 10);
  const std::vector<TensorSpec> specs{{"w", at::kFloat, {4096}}};
  EXPECT_THROW(
      export_hf_directory(scratch / "out", specs, [](size_t) { return at::ones({4096}); }, {.config_json = "{}"}),
      DiskError);
  EXPECT_TRUE(names_in(scratch.path()).empty());
}

}  // namespace
}  // namespace fpdist::checkpoint
