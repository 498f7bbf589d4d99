#pragma once
// arch (private): a family of models: its names, and how its config.json is read. A family that combines features that
// there are is a file of its own here, a line in families.cpp and one in CMakeLists.txt.

#include <span>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "src/arch/fields.hpp"

namespace fpdist::arch {

struct Family {
  std::string_view model_type;  ///< in config.json
  std::string_view classes;     ///< Transformers' classes are called <classes>ForCausalLM, ...
  /// All but Model::family and Model::json. Throws ModelFileError naming the field that is missing, senseless or asks
  /// for what we do not compute.
  Model (*read)(const Fields& fields);
};

std::span<const Family* const> families();

/// The model's own.
const Family& family_of(const Model& model);

}  // namespace fpdist::arch
