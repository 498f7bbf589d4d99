#pragma once
// What was asked of the emulated NCCL. Tests find the function by its name (dlsym): it is not there on a real GPU.

#include <cstdint>

/// Calls of ncclCommRegister since the process began.
extern "C" int64_t fpdist_emulated_registered();

/// Most thread blocks that the last communicator of that name was made with; what ncclConfig_t means by none otherwise.
extern "C" int fpdist_emulated_max_blocks(const char* name);
