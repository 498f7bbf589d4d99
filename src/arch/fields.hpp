#pragma once
// arch (private): fields of a config.json, with errors that name file and field.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace fpdist::arch {

/// Every getter throws ModelFileError where the field is not what it should be. `object` must outlive this.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  /// The field, or null when it is absent or null.
  const nlohmann::json* find(const char* name) const;
  /// Whether it is there, null or not.
  bool given(const char* name) const { return object_.contains(name); }

  // Without a fallback the field must be there.
  int64_t size(const char* name, std::optional<int64_t> fallback = std::nullopt) const;  ///< 1 to 2^30
  double positive(const char* name, std::optional<double> fallback = std::nullopt) const;
  bool flag(const char* name) const;  ///< false when absent
  std::string word(const char* name, const char* fallback) const;

  void require(bool condition, const char* name, const std::string& complaint) const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace fpdist::arch
