#pragma once
// data: a data set that is read once, and from its cache after that.

#include <span>
#include <string>

#include "fpdist/core/log.hpp"
#include "fpdist/data/options.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/core/checksum.hpp"

namespace fpdist::data {

/// Where caches lie and what may be done with them.
struct CacheUse {
  std::string folder;          ///< empty: none is used
  bool may_write = true;       ///< false: what is there is used, nothing is made
  double wait_seconds = 3600;  ///< while another process makes it
  /// Groups stay in the file, and come from it when a step wants them; false: all come into memory.
  bool stays_mapped = false;
};

/// Of everything that what read_dataset returns depends on: the contents of the files, the tokenizer, the options, the
/// method. Throws DataError for files that are missing.
Digest cache_key(const DataOptions& options, Method method, const Tokenizer& tokenizer);
/// The cache of `key` in `folder`.
std::string cache_path(const std::string& folder, const Digest& key);

/// Whether the first row of the data is text, which is worth a cache; false where it cannot be told.
bool begins_with_text(const DataOptions& options, Method method);

/// What read_dataset returns and says. The first process that finds no cache makes it, while others that ask for the
/// same one wait; a cache appears whole or not at all. Not collective. Throws what read_dataset does, DataError for a
/// damaged cache, DiskError.
Dataset read_cached(const DataOptions& options, Method method, Tokenizer& tokenizer, const CacheUse& use, LogSink& log,
                    const ReadWatch& watch = {});

/// Removes the caches in `folder` but those of `kept`, and nothing else that lies there; how many there were. Throws
/// DiskError.
int64_t prune_caches(const std::string& folder, std::span<const Digest> kept);

}  // namespace fpdist::data
