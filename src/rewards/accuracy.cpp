#include "fpdist/rewards/accuracy.hpp"

#include <algorithm>
#include <optional>

#include "fpdist/core/error.hpp"

namespace fpdist::rewards {

std::vector<bool> right_ones(std::span<const Values> by_name, std::span<const std::string> names, const Values& total) {
  const auto check = std::find_if(names.begin(), names.end(), [](const auto& name) { return is_check(name); });
  const Values& decides = check == names.end() ? total : by_name[static_cast<size_t>(check - names.begin())];
  std::vector<bool> right;
  for (const std::optional<double>& value : decides) right.push_back(value.value_or(0) >= 1);
  return right;
}

std::map<std::string, double> shares_of(const std::vector<bool>& right, int64_t of_prompt,
                                        std::span<const int64_t> pass_at_k) {
  const auto count_in = [&](int64_t begin, int64_t count) {
    return std::count(right.begin() + begin, right.begin() + begin + count, true);
  };
  const int64_t all = std::ssize(right);
  const auto mean = [](double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0; };
  std::map<std::string, double> shares{{"accuracy", mean(static_cast<double>(count_in(0, all)), all)}};
  for (const int64_t k : pass_at_k) {
    double sum = 0;
    for (int64_t begin = 0; begin < all; begin += of_prompt) sum += pass_at(k, of_prompt, count_in(begin, of_prompt));
    shares[text("pass@", k)] = mean(sum, all / of_prompt);
  }
  return shares;
}

}  // namespace fpdist::rewards
