#include "src/trainer/report/metric_sums.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace fpdist::trainer {

using loss::Combine;

namespace {

/// Numbers of one element each: what lies on the host as it is, all others in one copy. A dtype's are put together
/// first and made float64 together: one by one that is an operation each.
std::vector<double> read_numbers(const std::vector<at::Tensor>& numbers, comm::Device& device) {
  std::vector<double> read(numbers.size());
  std::map<at::ScalarType, std::vector<size_t>> by_dtype;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i].is_cpu())
      read[i] = numbers[i].item<double>();
    else
      by_dtype[numbers[i].scalar_type()].push_back(i);
  }
  if (by_dtype.empty()) return read;
  std::vector<at::Tensor> parts;
  for (const auto& [dtype, places] : by_dtype) {
    std::vector<at::Tensor> own;
    for (const size_t i : places) own.push_back(numbers[i].detach().reshape({}));
    parts.push_back(at::stack(own).to(at::kDouble));
  }
  const at::Tensor host = device.download(parts.size() == 1 ? parts.front() : at::cat(parts));
  const double* next = host.const_data_ptr<double>();
  for (const auto& [dtype, places] : by_dtype)
    for (const size_t i : places) read[i] = *next++;
  return read;
}

}  // namespace

void MetricSums::add(const std::map<std::string, loss::Metric>& metrics) {
  for (const auto& [name, metric] : metrics) waiting_.push_back({name, metric});
}

std::vector<double> MetricSums::fetch(comm::Device& device, const std::vector<at::Tensor>& more) {
  std::vector<at::Tensor> wanted;
  for (const Waiting& waiting : waiting_) {
    wanted.push_back(waiting.metric.value);
    if (waiting.metric.weight.defined()) wanted.push_back(waiting.metric.weight);
  }
  wanted.insert(wanted.end(), more.begin(), more.end());
  const std::vector<double> all = read_numbers(wanted, device);
  const double* next = all.data();
  for (const Waiting& waiting : std::exchange(waiting_, {})) {
    const double value = *next++;
    add(waiting.name, waiting.metric.combine, value, waiting.metric.weight.defined() ? *next++ : 1.0);
  }
  return {next, all.data() + all.size()};
}

void MetricSums::add(const std::string& name, Combine combine, double value, double weight) {
  const auto [at, fresh] = sums_.try_emplace(name, Added{combine, value, weight});
  if (fresh) return;
  Added& sum = at->second;
  switch (combine) {
    case Combine::kMean:
    case Combine::kSum:
      sum.value += value;
      sum.weight += weight;
      break;
    case Combine::kMin:
      sum.value = std::min(sum.value, value);
      break;
    case Combine::kMax:
      sum.value = std::max(sum.value, value);
      break;
  }
}

void MetricSums::add(const MetricSums& other) {
  for (const auto& [name, sum] : other.sums_) add(name, sum.combine, sum.value, sum.weight);
}

std::map<std::string, double> MetricSums::reduce(comm::Communicator& ranks) const {
  const auto count = static_cast<int64_t>(sums_.size());
  at::Tensor added = at::zeros({2 * count}, at::kDouble), largest = at::zeros({count}, at::kDouble);
  double* add_to = added.mutable_data_ptr<double>();
  double* max_of = largest.mutable_data_ptr<double>();
  int64_t i = 0;
  for (const auto& [name, sum] : sums_) {
    const bool extreme = sum.combine == Combine::kMin || sum.combine == Combine::kMax;
    if (extreme) max_of[i] = sum.combine == Combine::kMax ? sum.value : -sum.value;  // a minimum is a negated maximum
    if (!extreme) add_to[2 * i] = sum.value, add_to[2 * i + 1] = sum.weight;
    ++i;
  }
  ranks.all_reduce(added);
  ranks.all_reduce(largest, comm::ReduceOp::kMax);
  std::map<std::string, double> result;
  i = 0;
  for (const auto& [name, sum] : sums_) {
    switch (sum.combine) {
      case Combine::kMean:
        result[name] = add_to[2 * i + 1] != 0 ? add_to[2 * i] / add_to[2 * i + 1] : 0.0;
        break;
      case Combine::kSum:
        result[name] = add_to[2 * i];
        break;
      case Combine::kMin:
        result[name] = -max_of[i];
        break;
      case Combine::kMax:
        result[name] = max_of[i];
        break;
    }
    ++i;
  }
  return result;
}

}  // namespace fpdist::trainer
