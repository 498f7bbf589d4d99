#pragma once
// trainer (private): large steps are planned once a machine. Its first rank does and tells the others, which hold the
// same samples; planned by all, a step of a million samples would take a core and a gigabyte of each of them.

#include <cstdint>
#include <memory>
#include <span>

#include "fpdist/comm/communicator.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/planned_step.hpp"

namespace fpdist::trainer {

class MachinePlans {
 public:
  /// Samples of a step from which on it is planned so. Below, a plan takes less than a tenth of a second beside the
  /// step before, and nobody need wait for another.
  static constexpr int64_t kFrom = 20000;

  /// `job` must outlive it.
  explicit MachinePlans(const Job& job, int64_t from = kFrom) : job_(job), from_(from) {}

  /// Not collective; the same on all ranks that hold the same groups. Whether these are planned once a machine.
  bool are_shared(std::span<const data::Group> groups) const;
  /// Whether this rank is the one that plans such steps.
  bool is_first() const { return job_.world.local_rank() == 0; }

  /// Collective over the world: `planned` becomes what the machine's first rank has made of the same groups. Throws the
  /// ConfigError that planning threw there, on all ranks.
  void share(PlannedStep& planned);

 private:
  const Job& job_;
  const int64_t from_;
  std::unique_ptr<comm::Communicator> machine_;  ///< made when first needed
};

}  // namespace fpdist::trainer
