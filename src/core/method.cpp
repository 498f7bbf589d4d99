#include "fpdist/core/method.hpp"

#include "src/core/names.hpp"

namespace fpdist {

std::string_view name_of(Method method) { return find_name(kMethods, method); }
Method method_from_name(std::string_view name) { return find_value(kMethods, "method", name); }

}  // namespace fpdist
