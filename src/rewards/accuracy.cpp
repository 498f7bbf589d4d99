#include "fpdist/rewards/accuracy.hpp"

#include <algorithm>
#include <cmath>
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
  std::vector<int64_t> count;  // right ones of each prompt
  for (int64_t begin = 0; begin < std::ssize(right); begin += of_prompt)
    count.push_back(std::count(right.begin() + begin, right.begin() + begin + of_prompt, true));
  std::map<std::string, double> shares;
  const auto add = [&](const std::string& name, const auto& share_of) {
    double sum = 0, squares = 0;
    for (const int64_t one : count) sum += share_of(one);
    const auto prompts = static_cast<double>(count.size());
    const double mean = prompts > 0 ? sum / prompts : 0;
    for (const int64_t one : count) squares += (share_of(one) - mean) * (share_of(one) - mean);
    shares[name] = mean;
    shares[name + "_stderr"] = prompts > 1 ? std::sqrt(squares / (prompts - 1) / prompts) : 0;
  };
  add("accuracy", [&](int64_t one) { return static_cast<double>(one) / static_cast<double>(of_prompt); });
  for (const int64_t k : pass_at_k) add(text("pass@", k), [&](int64_t one) { return pass_at(k, of_prompt, one); });
  return shares;
}

}  // namespace fpdist::rewards
