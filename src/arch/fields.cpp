#include "src/arch/fields.hpp"

#include <cmath>

#include "fpdist/core/error.hpp"

namespace fpdist::arch {

using Json = nlohmann::json;

const Json* Fields::find(const char* name) const {
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

int64_t Fields::size(const char* name, std::optional<int64_t> fallback) const {
  const Json* field = find(name);
  if (field == nullptr && fallback) return *fallback;
  require(field != nullptr, name, "is missing");
  const bool sensible =
      field->is_number_unsigned() && field->get<uint64_t>() >= 1 && field->get<uint64_t>() <= (1 << 30);
  require(sensible, name, text("must be a whole number from 1 to 2^30, not ", field->dump()));
  return field->get<int64_t>();
}

double Fields::positive(const char* name, std::optional<double> fallback) const {
  const Json* field = find(name);
  if (field == nullptr && fallback) return *fallback;
  require(field != nullptr, name, "is missing");
  require(field->is_number() && std::isfinite(field->get<double>()) && field->get<double>() > 0, name,
          text("must be a positive number, not ", field->dump()));
  return field->get<double>();
}

bool Fields::flag(const char* name) const {
  const Json* field = find(name);
  require(field == nullptr || field->is_boolean(), name, "must be true or false");
  return field != nullptr && field->get<bool>();
}

std::string Fields::word(const char* name, const char* fallback) const {
  const Json* field = find(name);
  require(field == nullptr || field->is_string(), name, "must be a string");
  return field == nullptr ? fallback : field->get<std::string>();
}

void Fields::require(bool condition, const char* name, const std::string& complaint) const {
  check<ModelFileError>(condition, where_, ": \"", name, "\" ", complaint);
}

}  // namespace fpdist::arch
