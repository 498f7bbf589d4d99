#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

/// Nothing predicts a first token.
int64_t supervised_tokens(const data::Sample& sample) {
  if (sample.target.empty()) return 0;
  return std::count_if(sample.target.begin() + 1, sample.target.end(), [](int32_t id) { return id != data::kIgnore; });
}

void add_lengths(const std::string& name, const std::vector<int64_t>& lengths, std::map<std::string, double>& metrics) {
  double sum = 0;
  int64_t least = lengths.empty() ? 0 : lengths.front(), most = least;
  for (const int64_t length : lengths) {
    sum += static_cast<double>(length);
    least = std::min(least, length), most = std::max(most, length);
  }
  metrics["completions/mean_" + name] = sum / static_cast<double>(std::max<size_t>(lengths.size(), 1));
  metrics["completions/min_" + name] = static_cast<double>(least);
  metrics["completions/max_" + name] = static_cast<double>(most);
}

}  // namespace

std::map<std::string, double> completion_metrics(std::span<const data::Group> groups) {
  std::vector<int64_t> all, terminated;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) {
      all.push_back(supervised_tokens(sample));
      if (!sample.truncated) terminated.push_back(all.back());
    }
  std::map<std::string, double> metrics;
  if (all.empty()) return metrics;
  add_lengths("length", all, metrics);
  add_lengths("terminated_length", terminated, metrics);
  metrics["completions/clipped_ratio"] =
      static_cast<double>(all.size() - terminated.size()) / static_cast<double>(all.size());
  return metrics;
}

void mask_truncated(std::span<data::Group> groups) {
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample)
      if (sample.truncated) std::fill(sample.target.begin(), sample.target.end(), data::kIgnore);
}

}  // namespace fpdist::loss
