#pragma once
// arch (private): PEFT's adapter_config.json of a trained prefix.

#include <string>

#include "fpdist/arch/model.hpp"

namespace fpdist::arch {

/// Whether adapter_config.json is of a kind that is read here.
bool is_prefix_config(const std::string& json);

/// The options that it was written with. Throws ModelFileError, starting with `where`, for one that cannot be trained
/// on: a prefix of an MLP, whose weights PEFT does not keep.
AdapterOptions parse_prefix_config(const std::string& json, const std::string& where);

/// The fields of the model's prefix over those of `json`, an object or "".
std::string prefix_config_json(const Model& model, Head head, const AdapterOptions& options, const std::string& json);

}  // namespace fpdist::arch
