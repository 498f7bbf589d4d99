#include "fpdist/core/error.hpp"
#include "src/main/fpdist_bench/bench.hpp"
namespace fpdist::bench {
Body prepare_scaling(const Arguments&) { return {}; }
}  // namespace fpdist::bench
