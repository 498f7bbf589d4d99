#pragma once
// comm: words from one rank to all, for errors that every rank throws alike.

#include <string>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

/// `words` of rank `root`, on every rank of `axis`; those of the others are not looked at. Collective.
std::string broadcast_text(std::string words, int root, Communicator& axis);

}  // namespace fpdist::comm
