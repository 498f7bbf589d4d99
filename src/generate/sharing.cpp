#include "src/generate/sharing.hpp"

#include <algorithm>
#include <tuple>

namespace fpdist::generate {

int64_t Sharing::of(const std::vector<int32_t>& a, const std::vector<int32_t>& b) const {
  if (is_long(a) != is_long(b)) return 0;
  const auto [differs, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const int64_t common = differs - a.begin();
  if (differs == a.end() && other == b.end()) return common;
  if (!is_long(a)) return common / whole_ * whole_;
  // A prompt's last row sees all its keys and stands in no window of another.
  const auto shorter = static_cast<int64_t>(std::min(a.size(), b.size()));
  return std::min(common, shorter - 1) / window_ * window_;
}

bool Sharing::order(const std::vector<int32_t>& a, const std::vector<int32_t>& b) const {
  const bool a_is_long = is_long(a), b_is_long = is_long(b);
  return std::tie(a_is_long, a) < std::tie(b_is_long, b);
}

}  // namespace fpdist::generate
