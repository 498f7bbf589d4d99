#pragma once
// What was asked of the emulated NCCL. Tests find the function by its name (dlsym): it is not there on a real GPU.

#include <cstdint>

/// Calls of ncclCommRegister since the process began.
extern "C" int64_t fpdist_emulated_registered();
