#pragma once
// trainer (private): whether all ranks hold the same samples, to the last bit of everything that enters a loss.

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/sample.hpp"
#include "src/core/checksum.hpp"

namespace fpdist::trainer {

/// Of every field of these groups but their ids, in this order.
Digest digest_of(std::span<const data::Group> groups);

/// What a rank calls the group at this place: "pairs.jsonl:4".
using GroupName = std::function<std::string(size_t place)>;

/// Collective. Throws DataError, on every rank the same, unless all have the same groups in the same order: `what`
/// ("the ranks read different data"), the first group that differs, its fields, who holds what, and `cure`. Costs one
/// pass over the samples and an exchange of 16 bytes where all agree. Returns what that pass has come to: digest_of.
Digest check_same_groups(std::span<const data::Group> groups, const GroupName& name, comm::Communicator& world,
                         std::string_view what, std::string_view cure);

/// Collective: check_same_groups of a whole data set; one that stays in its cache goes through in parts.
Digest check_same_dataset(const data::Dataset& dataset, comm::Communicator& world);

/// The same for the order in which an epoch goes through them.
Digest check_same_order(const data::Loader& loader, comm::Communicator& world);

}  // namespace fpdist::trainer
