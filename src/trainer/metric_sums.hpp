#pragma once
// trainer (private): metric contributions of packs, added up over packs and ranks.

#include <map>
#include <string>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/loss/loss.hpp"

namespace fpdist::trainer {

class MetricSums {
 public:
  void add(const std::map<std::string, loss::Metric>& metrics);
  void add(const std::string& name, loss::Combine combine, double value, double weight = 1.0);
  /// Collective. Every rank must hold the same names with the same Combine; means of weight 0 come out as 0.
  std::map<std::string, double> reduce(comm::Communicator& ranks) const;

 private:
  struct Sum {
    loss::Combine combine;
    double value, weight;
  };
  std::map<std::string, Sum> sums_;
};

}  // namespace fpdist::trainer
