#pragma once
// The emulated GPU's memory, as those who run on the device see it.

#include <cstdint>
#include <utility>

namespace fpdist::emulated {

/// The allocation that begins at or before `address`, [begin,end), as large as it was asked for; empty where there is
/// none.
std::pair<uint64_t, uint64_t> allocation_before(uint64_t address);

}  // namespace fpdist::emulated
