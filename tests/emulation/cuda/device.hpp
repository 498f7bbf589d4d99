#pragma once
// The emulated GPU: which one it says it is.

namespace fpdist::emulated {

/// 10 * major + minor: FPDIST_EMULATED_SM, or 90. Kernels for a higher one alone are not found.
int compute_capability();

}  // namespace fpdist::emulated
