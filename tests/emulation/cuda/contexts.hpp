#pragma once
// Which devices this process has a context on: a call that needs one makes it on the calling thread's current device,
// and a context takes half a gigabyte of a real GPU. Tests find the function by its name (dlsym).

#include <cstdint>

/// Bit d: device d.
extern "C" uint64_t fpdist_emulated_contexts();
