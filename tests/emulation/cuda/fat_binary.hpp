#pragma once
// The emulated GPU: what nvcc puts into a program for the runtime to load.

#include <string>

namespace fpdist::emulated {

/// Of the PTX in the fat binary that __cudaRegisterFatBinary is given, that of the highest architecture up to
/// `most`; "" where there is none in plain text (nvcc --no-compress leaves it so): a library that is not ours, or
/// kernels that this device does not run.
std::string ptx_in(const void* wrapper, int most);

}  // namespace fpdist::emulated
