#pragma once
// data: groups that teach nothing although nothing is wrong with them. Counted while rows are read, said once.

#include <cstdint>
#include <string>

#include "fpdist/core/log.hpp"
#include "fpdist/data/sample.hpp"
#include "src/data/rows/format.hpp"

namespace fpdist::data {

/// Pairs of one answer, and answers without a token of their own.
class OddRows {
 public:
  void see(const MadeGroup& made, RowGroup kind, const LinePlace& place);
  void tell(LogSink& log) const;

 private:
  struct RowCount {
    int64_t rows = 0;
    std::string first;
    void note(const LinePlace& place);
  };
  RowCount same_, empty_;
};

/// Rollouts whose rewards differ in no group.
class EvenRewards {
 public:
  void see(const Group& group);
  void tell(LogSink& log) const;

 private:
  int64_t groups_ = 0, even_ = 0;
};

}  // namespace fpdist::data
