#pragma once
// trainer (private): metric contributions of packs, added up over packs and ranks.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/loss/loss.hpp"

namespace fpdist::trainer {

class MetricSums {
 public:
  /// Keeps the tensors as they are; fetch() reads them.
  void add(const std::map<std::string, loss::Metric>& metrics);
  void add(const std::string& name, loss::Combine combine, double value, double weight = 1.0);
  /// What `other` has fetched.
  void add(const MetricSums& other);
  /// All tensors given so far in one copy, with `more` (one element each) behind them, whose values it returns. Waits
  /// for the device.
  std::vector<double> fetch(comm::Device& device, const std::vector<at::Tensor>& more = {});
  /// Collective; after fetch. Every rank must hold the same names with the same Combine; means of weight 0 come out as
  /// 0.
  std::map<std::string, double> reduce(comm::Communicator& ranks) const;

 private:
  struct Added {
    loss::Combine combine;
    double value, weight;
  };
  struct Waiting {
    std::string name;
    loss::Metric metric;
  };
  std::map<std::string, Added> sums_;
  std::vector<Waiting> waiting_;
};

}  // namespace fpdist::trainer
