#pragma once
// checkpoint: an adapter's products added into the weights of its model, as PEFT's merge does it. Not collective.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "fpdist/arch/adapter.hpp"
#include "fpdist/checkpoint/hf_directory.hpp"

namespace fpdist::checkpoint {

/// What rounding has taken from the sums: of any element, and where.
struct MergeLoss {
  double largest = 0;
  std::string weight;
};

/// All tensors of `base`, in their own dtypes, with scale * B A added into the weight beside every product of
/// `products` (with DoRA its rows then scaled to the magnitudes): the product in the adapter's dtype (float32 at
/// least), one rounding of the sum. One tensor is in memory at a time. Throws as export_hf_directory, and
/// ModelFileError for a product whose weight `base` has not in its shape.
MergeLoss export_merged(const HfDirectory& base, const HfDirectory& adapter, const arch::Adapter& products,
                        const std::string& directory, const ExportOptions& options);

}  // namespace fpdist::checkpoint
