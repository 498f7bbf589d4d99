#include "src/core/version.hpp"

namespace fpdist {

std::string_view version() { return "fpdist " FPDIST_VERSION; }

std::string_view commit() { return FPDIST_COMMIT; }

}  // namespace fpdist
