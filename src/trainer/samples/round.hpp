#pragma once
// trainer (private): one round of rollouts: what a generation has made for the steps that share it.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fpdist/data/sample.hpp"

namespace fpdist::trainer {

struct RolloutRound {
  int64_t number = -1;  ///< 0-based; -1: none yet
  std::vector<data::Group> groups;
  std::map<std::string, double> metrics;  ///< of all of them
};

/// A JSON object, every number to its last bit; "{}" of no round.
std::string to_json(const RolloutRound& round);
/// Fields that the notes of an older checkpoint lack stay as a new group has them. Throws ModelFileError naming
/// `where`.
RolloutRound parse_round(const std::string& json, const std::string& where);

}  // namespace fpdist::trainer
