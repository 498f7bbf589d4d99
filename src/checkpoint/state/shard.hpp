#pragma once
// checkpoint (private): a shard's header: a safetensors file's, whose metadata say of each tensor which elements of
// which whole tensor it is, as {"name", "shape", "dim", "from", "extent", "begin"}.

#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/checkpoint/safetensors_header.hpp"
#include "src/checkpoint/state/training_state.hpp"

namespace fpdist::checkpoint {

/// A piece as a shard's file has it.
struct ShardPiece {
  std::string key;  ///< its name in the file: a whole tensor's may be there in several pieces
  std::string name;
  at::ScalarType dtype;
  Region region;
};

/// What a file with these pieces says of them: its tensors, in the order of `pieces`, and its metadata. Throws
/// ShapeError for a region that is none.
std::vector<TensorSpec> specs_of_pieces(std::span<const PieceSpec> pieces,
                                        std::map<std::string, std::string>& metadata);

/// Throws ModelFileError, starting with `where`.
std::vector<ShardPiece> parse_pieces(const std::map<std::string, TensorInfo>& tensors,
                                     const std::map<std::string, std::string>& metadata, const std::string& where);

/// A piece and the shard that has it.
struct PlacedPiece {
  size_t shard;
  ShardPiece piece;
};

/// By the names of whole tensors. Throws ModelFileError, starting with `where`, unless the pieces of each are of one
/// dtype and are all of its elements, each once.
std::map<std::string, std::vector<PlacedPiece>> join_shards(std::vector<std::vector<ShardPiece>> shards,
                                                            const std::string& where);

}  // namespace fpdist::checkpoint
