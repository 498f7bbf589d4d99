#pragma once
// files (private): the words of a DiskError.

#include <string>

namespace fpdist::files {

/// Throws the DiskError of errno: "cannot write <path>: <doing><reason>: <cure>"; `doing`: the step that failed, where
/// the reason does not say enough ("" or "flushing it: ").
[[noreturn]] void throw_disk_error(const std::string& path, const char* doing = "");

}  // namespace fpdist::files
