#pragma once
// arch: PEFT's adapter_config.json and the options that it stands for. No torch.

#include <string>

#include "fpdist/arch/model.hpp"

namespace fpdist::arch {

std::string adapter_config_path(const std::string& directory);

/// Its text. Throws ModelFileError when the directory or the file is missing, cannot be read or is too large.
std::string read_adapter_config(const std::string& directory);

/// The options that an adapter_config.json was written with. Throws ModelFileError, starting with `where`, for an
/// adapter of another kind than LoRA and for fields that change what it computes in a way that is not here.
AdapterOptions parse_adapter_config(const std::string& json, const std::string& where);

/// The directory of the model that an adapter_config.json names; "" where it names none. Throws as above.
std::string base_of(const std::string& json, const std::string& where);

/// `given` with what the directory `given.path` says. Throws ConfigError for a key of `given` that says otherwise.
AdapterOptions continued(const AdapterOptions& given);

/// Throws ConfigError for a key of `options` that is of another adapter.type than theirs.
void check_keys_of_type(const AdapterOptions& options);

/// adapter_config.json of the model's adapter, which `options` describe: the fields of the file that it was read from
/// (Adapter::json), where there is one, with ours over them. `base`: the directory of the frozen model.
std::string adapter_config_json(const Model& model, Head head, const AdapterOptions& options, const std::string& base);

/// adapter_config.json of one of several prefixes (AdapterOptions::prefix_by), as PEFT has it, from theirs.
std::string one_prefix_json(const std::string& json);

}  // namespace fpdist::arch
