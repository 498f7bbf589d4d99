#include "src/checkpoint/state/shard.hpp"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/region.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr const char* kFormatKey = "format";
constexpr const char* kFormatName = "fpdist training state";

int64_t whole_number(const nlohmann::json& value, const std::string& place) {
  check<ModelFileError>(value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() >> 63 == 0),
                        place, " has a place that is no whole number");
  return value.get<int64_t>();
}

/// `elements`: that the file has of it.
ShardPiece parse_piece(const std::string& key, const TensorInfo& info, const std::string& json,
                       const std::string& place) {
  check<ModelFileError>(info.shape.size() == 1, place, " is no flat piece");
  const nlohmann::json root = files::parse_strict(json, place, 3);
  constexpr const char* kFields[] = {"name", "shape", "dim", "from", "extent", "begin"};
  check<ModelFileError>(root.is_object() && root.size() == std::size(kFields), place, " does not say its place");
  for (const char* field : kFields) check<ModelFileError>(root.contains(field), place, " does not say its ", field);
  check<ModelFileError>(root["name"].is_string() && root["shape"].is_array(), place, " does not say its tensor");
  ShardPiece piece{.key = key, .name = root["name"].get<std::string>(), .dtype = info.dtype, .region = {}};
  for (const auto& size : root["shape"]) piece.region.shape.push_back(whole_number(size, place));
  piece.region.dim = whole_number(root["dim"], place);
  piece.region.from = whole_number(root["from"], place);
  piece.region.extent = whole_number(root["extent"], place);
  piece.region.begin = whole_number(root["begin"], place);
  piece.region.size = info.shape.front();
  const std::string fault = fault_of(piece.region);
  check<ModelFileError>(fault.empty(), place, " is ", fault, " of \"", piece.name, "\"");
  return piece;
}

}  // namespace

std::vector<TensorSpec> specs_of_pieces(std::span<const PieceSpec> pieces,
                                        std::map<std::string, std::string>& metadata) {
  metadata = {{kFormatKey, kFormatName}};
  std::vector<TensorSpec> specs;
  for (const auto& [name, dtype, region] : pieces) {
    const std::string fault = fault_of(region);
    check(fault.empty(), "a piece of \"", name, "\" is ", fault);
    std::string key = name;
    for (int number = 2; metadata.contains(key); ++number) key = text(name, "#", number);
    metadata[key] = nlohmann::json{{"name", name},        {"shape", region.shape},   {"dim", region.dim},
                                   {"from", region.from}, {"extent", region.extent}, {"begin", region.begin}}
                        .dump();
    specs.push_back({key, dtype, {region.size}});
  }
  return specs;
}

std::vector<ShardPiece> parse_pieces(const std::map<std::string, TensorInfo>& tensors,
                                     const std::map<std::string, std::string>& metadata, const std::string& where) {
  const auto format = metadata.find(kFormatKey);
  check<ModelFileError>(format != metadata.end() && format->second == kFormatName, where,
                        ": is no shard of a training state");
  check<ModelFileError>(metadata.size() == tensors.size() + 1, where, ": has ", tensors.size(), " pieces and ",
                        metadata.size() - 1, " places");
  std::vector<ShardPiece> pieces;
  for (const auto& [key, info] : tensors) {
    const std::string place = text(where, ": \"", key, "\"");
    const auto said = metadata.find(key);
    check<ModelFileError>(said != metadata.end(), place, " does not say its place");
    pieces.push_back(parse_piece(key, info, said->second, place));
  }
  return pieces;
}

std::map<std::string, std::vector<PlacedPiece>> join_shards(std::vector<std::vector<ShardPiece>> shards,
                                                            const std::string& where) {
  std::map<std::string, std::vector<PlacedPiece>> tensors;
  for (size_t shard = 0; shard < shards.size(); ++shard)
    for (ShardPiece& piece : shards[shard]) tensors[piece.name].push_back({shard, std::move(piece)});
  for (const auto& [name, pieces] : tensors) {
    std::vector<const Region*> regions;
    for (const PlacedPiece& placed : pieces) {
      check<ModelFileError>(placed.piece.dtype == pieces.front().piece.dtype, where, ": \"", name,
                            "\" is of two dtypes");
      regions.push_back(&placed.piece.region);
    }
    const std::string fault = fault_of_cut(std::move(regions));
    check<ModelFileError>(fault.empty(), where, ": \"", name, "\" ", fault);
  }
  return tensors;
}

}  // namespace fpdist::checkpoint
