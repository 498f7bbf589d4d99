// config.json to Model. What the project cannot compute exactly is refused by name, never passed over.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/families/family.hpp"
#include "src/arch/fields.hpp"
#include "src/arch/quantization_json.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::json;
constexpr int kMaxDepth = 32;  // a printer that recurses must not meet a million brackets

Json parse_object(std::string_view json, const std::string& where) {
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    check<ModelFileError>(depth <= kMaxDepth, where, ": JSON nested deeper than ", kMaxDepth, " levels");
    return true;
  };
  Json root;
  try {
    root = Json::parse(json.begin(), json.end(), watch);
  } catch (const Json::exception& error) {
    throw ModelFileError(text(where, ": not valid JSON: ", error.what()));
  }
  check<ModelFileError>(root.is_object(), where, ": not a JSON object");
  return root;
}

const Family& parse_family(const Fields& fields) {
  const std::string type = fields.word("model_type", "");
  std::string known;
  for (const Family* family : families()) {
    if (family->model_type == type) return *family;
    known += (known.empty() ? "" : " | ") + std::string(family->model_type);
  }
  throw ModelFileError(text(fields.where(), ": \"model_type\" \"", type, "\" is not supported; choose ", known));
}

}  // namespace

Model parse_model_config(std::string_view json, const std::string& where) {
  const Json root = parse_object(json, where);
  const Fields fields(root, where);
  const Family& family = parse_family(fields);
  Model model = family.read(fields);
  model.family = family.model_type;
  model.quantization = read_quantization(fields);
  model.json = json;
  return model;
}

}  // namespace fpdist::arch
