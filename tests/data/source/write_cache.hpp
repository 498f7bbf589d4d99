#pragma once
// Tests: a data set in memory as a token cache.

#include <string>
#include <vector>

#include "src/data/source/token_cache.hpp"

namespace fpdist::test {

inline void write_token_cache(const std::string& path, const Digest& key, const data::Dataset& dataset,
                              const std::vector<data::SaidLine>& said) {
  data::CacheWriter writer(path, key);
  for (const data::Group& group : dataset.group) writer.add(group);
  writer.finish(dataset, said);
}

}  // namespace fpdist::test
