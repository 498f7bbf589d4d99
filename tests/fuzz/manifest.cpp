// manifest.json of a checkpoint: what is accepted is what would have been written.

#include "src/checkpoint/state/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fpdist/core/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fpdist;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (checkpoint::to_json(checkpoint::parse_manifest(bytes, "manifest.json")) != bytes) std::abort();
  } catch (const ModelFileError&) {
  }
  return 0;
}
