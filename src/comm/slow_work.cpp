#include "fpdist/comm/slow_work.hpp"

#include <utility>

#include "src/comm/journal.hpp"

namespace fpdist::comm {

SlowWork::SlowWork(const Communicator& ranks, std::string work) : journal_(ranks.journal()) {
  journal_->begin_slow(std::move(work));
}

SlowWork::~SlowWork() { journal_->end_slow(); }

}  // namespace fpdist::comm
