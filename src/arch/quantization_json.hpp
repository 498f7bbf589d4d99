#pragma once
// arch (private): config.json's quantization_config.

#include <optional>

#include "fpdist/arch/quantization.hpp"
#include "src/arch/fields.hpp"

namespace fpdist::arch {

/// None where there is none. Throws ModelFileError for another kind than bitsandbytes' nf4.
std::optional<Quantization> read_quantization(const Fields& fields);

}  // namespace fpdist::arch
