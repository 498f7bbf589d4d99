#include "src/core/key.hpp"

#include <cmath>
#include <type_traits>

#include "fpdist/core/error.hpp"

namespace fpdist {
namespace {

void check_number(const Valid& valid, const Field& field, Complaints& complaints) {
  std::visit(
      [&](const auto& of) {
        if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(of)>>) {
          if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(*of)>>) {
            const auto number = static_cast<double>(*of);
            if (!std::isfinite(number) || !valid.accepts(number))
              complaints.push_back(text(" is ", *of, "; it must be ", valid.must));
          }
        }
      },
      field);
}

}  // namespace

std::string joined(std::span<const std::string_view> names, std::string_view between, std::string_view last) {
  std::string all;
  for (size_t i = 0; i < names.size(); ++i) all += text(i == 0 ? "" : i + 1 == names.size() ? last : between, names[i]);
  return all;
}

void check_one_of(const Valid& valid, const Field& field, Complaints& complaints) {
  constexpr std::string_view kBetween = " | ";
  std::vector<std::string_view> known;
  for (size_t begin = 0; begin < valid.values.size();) {
    const size_t end = std::min(valid.values.find(kBetween, begin), valid.values.size());
    known.push_back(valid.values.substr(begin, end - begin));
    begin = end + kBetween.size();
  }
  const std::string& value = *std::get<std::string*>(field);
  if (std::find(known.begin(), known.end(), value) == known.end())
    complaints.push_back(text(" is '", value, "'; use ", joined(known, ", ", " or ")));
}

void check_filled(const Valid& valid, const Field& field, Complaints& complaints) {
  if (std::get<std::string*>(field)->empty()) complaints.push_back(text(" is empty; ", valid.must));
}

Complaints complaints_of(const Key& key, void* options) {
  Complaints complaints;
  if (key.valid.accepts) check_number(key.valid, key.field(options), complaints);
  if (key.valid.check) key.valid.check(key.valid, key.field(options), complaints);
  return complaints;
}

}  // namespace fpdist
