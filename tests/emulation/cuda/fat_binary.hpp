#pragma once
// The emulated GPU: what nvcc puts into a program for the runtime to load.

#include <string>

namespace fpdist::emulated {

/// The PTX of the highest architecture in the fat binary that __cudaRegisterFatBinary is given; "" where there is none
/// in plain text (nvcc --no-compress leaves it so): a library that is not ours.
std::string ptx_in(const void* wrapper);

}  // namespace fpdist::emulated
