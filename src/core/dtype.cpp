#include "fpdist/core/dtype.hpp"

#include "src/core/names.hpp"

namespace fpdist {

std::string_view name_of(DType dtype) { return find_name(kDTypes, dtype); }
DType dtype_from_name(std::string_view name) { return find_value(kDTypes, "dtype", name); }

}  // namespace fpdist
