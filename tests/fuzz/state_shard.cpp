// A shard of a checkpoint, alone: what is accepted can be read, each element once, in one piece and in two.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/region.hpp"
#include "src/checkpoint/state/shard.hpp"

namespace {

using namespace fpdist::checkpoint;

/// A file as it lies in memory.
struct Shard {
  explicit Shard(std::string_view bytes) : file(bytes), header(parse_file(bytes, "shard", data_begin)) {
    tensors = join_shards({parse_pieces(header.tensors, header.metadata, "shard")}, "state");
  }
  int64_t read(const std::vector<PlacedPiece>& pieces, const Region& region) const {
    int64_t copied = 0;
    const size_t element = c10::elementSize(pieces.front().piece.dtype);
    std::vector<char> out(static_cast<size_t>(region.size) * element);
    for (const auto& [shard, piece] : pieces)
      copied += copy_common(piece.region, file.data() + data_begin + header.tensors.at(piece.key).begin, region,
                            out.data(), element);
    return copied;
  }
  std::string_view file;
  uint64_t data_begin = 0;
  Header header;
  std::map<std::string, std::vector<PlacedPiece>> tensors;
};

void expect(bool holds) {
  if (!holds) std::abort();
}

void read_all(const Shard& shard) {
  for (const auto& [name, pieces] : shard.tensors) {
    Region whole{.shape = pieces.front().piece.region.shape};
    const int64_t all = whole_elements(whole);
    whole.size = all;
    expect(shard.read(pieces, whole) == all);
    whole.begin = all / 3, whole.size = all - all / 3;
    expect(shard.read(pieces, whole) == whole.size);
    for (int64_t dim = 0; dim < static_cast<int64_t>(whole.shape.size()) && all > 0; ++dim) {
      const int64_t rows = whole.shape[static_cast<size_t>(dim)];
      const Region half{.shape = whole.shape,
                        .dim = dim,
                        .from = rows / 2,
                        .extent = rows - rows / 2,
                        .size = all / rows * (rows - rows / 2)};
      expect(shard.read(pieces, half) == half.size);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    read_all(Shard({reinterpret_cast<const char*>(data), size}));
  } catch (const fpdist::ModelFileError&) {
  }
  return 0;
}
