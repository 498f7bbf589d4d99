// PEFT's merge of the adapters of tests/golden (make_adapter_golden.py), bit for bit.

#include "src/checkpoint/merge_adapter.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/checkpoint/state/convert.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

const std::string kGolden = FPDIST_SOURCE_DIR "/tests/golden/";

arch::Adapter adapter_of(const HfDirectory& base, const HfDirectory& adapter) {
  const arch::Model model = arch::parse_model_config(base.config_json(), base.config_path());
  return arch::adapter_of(model, Head::kLanguageModel,
                          arch::parse_adapter_config(adapter.config_json(), adapter.config_path()));
}

TEST(MergeAdapter, Bfloat16WeightsAreThoseOfPeftsMerge) {
  for (const std::string family : {"llama", "llama_linear", "qwen2", "qwen3"}) {
    const test::Scratch scratch;
    const HfDirectory plain(kGolden + "model_" + family),
        adapter = HfDirectory::of_adapter(kGolden + "adapter_" + family);
    export_again(plain, at::kBFloat16, scratch / "base", {.config_json = plain.config_json()});
    const HfDirectory base(scratch / "base");
    const arch::Adapter products = adapter_of(base, adapter);
    const MergeLoss loss =
        export_merged(base, adapter, products, scratch / "merged", {.config_json = base.config_json()});
    EXPECT_GT(loss.largest, 0);
    EXPECT_LT(loss.largest, 0.02);
    const HfDirectory merged(scratch / "merged");
    const SafetensorsFile expected(kGolden + "adapter_" + family + "/expected.safetensors");
    size_t changed = 0;
    ASSERT_EQ(merged.names(), base.names());
    for (const std::string& name : merged.names()) {
      const bool is_merged = expected.tensors().count("merged." + name) != 0;
      changed += is_merged ? 1 : 0;
      EXPECT_TRUE(at::equal(merged.file_with(name).tensor(name),
                            is_merged ? expected.tensor("merged." + name) : base.file_with(name).tensor(name)))
          << family << " " << name;
    }
    EXPECT_EQ(changed, products.linear.size());
    if (products.has_magnitude) continue;
    double largest = 0;
    for (const arch::LowRank& pair : products.linear) {
      const at::Tensor a = adapter.tensor(pair.module + arch::kLowRankA).to(at::kFloat),
                       b = adapter.tensor(pair.module + arch::kLowRankB).to(at::kFloat);
      const std::string name = pair.module + ".weight";
      const at::Tensor sum = at::mm(b, a).mul_(pair.scale).add_(base.tensor(name));
      largest = std::max(largest, (merged.tensor(name).to(at::kFloat) - sum).abs().max().item<double>());
    }
    EXPECT_EQ(loss.largest, largest);
  }
}

/// As PEFT lifts them: the product is rounded once, with the sum.
TEST(MergeAdapter, Bfloat16AdaptersAreMultipliedInFloat32) {
  const test::Scratch scratch;
  const HfDirectory base(kGolden + "model_llama"), given = HfDirectory::of_adapter(kGolden + "adapter_llama");
  const arch::Adapter products = adapter_of(base, given);
  NamedTensors tensors;
  for (const arch::LowRank& pair : products.linear)
    for (const char* which : {arch::kLowRankA, arch::kLowRankB})
      tensors.emplace_back(pair.module + which, given.tensor(pair.module + which).to(at::kBFloat16));
  export_hf_directory(scratch / "adapter", tensors, {.config_json = {}, .adapter_json = given.config_json()});
  const HfDirectory adapter = HfDirectory::of_adapter(scratch / "adapter");
  export_merged(base, adapter, products, scratch / "merged", {.config_json = base.config_json()});
  const HfDirectory merged(scratch / "merged");
  for (const arch::LowRank& pair : products.linear) {
    const at::Tensor a = adapter.tensor(pair.module + arch::kLowRankA).to(at::kFloat),
                     b = adapter.tensor(pair.module + arch::kLowRankB).to(at::kFloat);
    const std::string name = pair.module + ".weight";
    EXPECT_TRUE(at::equal(merged.tensor(name), at::mm(b, a).mul_(pair.scale).add_(base.tensor(name)))) << name;
  }
}

TEST(MergeAdapter, AnotherModelIsRefused) {
  const test::Scratch scratch;
  const HfDirectory base(kGolden + "model_llama"), adapter = HfDirectory::of_adapter(kGolden + "adapter_llama");
  arch::Adapter products = adapter_of(base, adapter);
  products.linear.back().in += 1;
  test::expect_words(test::error_of<ModelFileError>([&] {
                       export_merged(base, adapter, products, scratch / "merged", {.config_json = base.config_json()});
                     }),
                     {"model_llama is not the model of the adapter", "mlp.down_proj.weight of [32, 41]"});
}

}  // namespace
}  // namespace fpdist::checkpoint
