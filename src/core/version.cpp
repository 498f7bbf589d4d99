#include "src/core/version.hpp"

namespace fpdist {

std::string_view version() { return "fpdist " FPDIST_VERSION; }

}  // namespace fpdist
