#pragma once
// tests/emulation: the driver's functions that fpdist asks for by name at run time.

namespace fpdist::emulated {

/// cuTensorMapEncodeTiled for the PTX machine's TMA: refuses what the driver refuses, and what the machine does not
/// model. Null for any other name.
void* driver_function(const char* name);

}  // namespace fpdist::emulated
