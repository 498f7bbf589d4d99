// What a text worker says. The first byte chooses which answer is expected, the second to how many requests.

#include "src/data/text/worker_frames.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fpdist/core/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fpdist;
  using namespace fpdist::data;
  if (size < 2) return 0;
  const std::string_view answer(reinterpret_cast<const char*>(data + 2), size - 2);
  try {
    switch (data[0] % 4) {
      case 0:
        for (const EncodedText& one : read_encoded(answer, data[1]))
          if (!one.is_marked.empty() && one.is_marked.size() != one.id.size()) std::abort();
        break;
      case 1:
        if (read_texts(answer, 'R', data[1]).size() != data[1]) std::abort();
        break;
      case 2:
        (void)read_texts(answer, 'D', data[1]);
        break;
      default:
        (void)read_facts(answer, "folder");
    }
  } catch (const DataError&) {
  }
  return 0;
}
