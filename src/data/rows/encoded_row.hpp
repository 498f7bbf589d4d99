#pragma once
// data: a row of text on its way through the tokenizer: it says what is to be rendered and encoded and becomes a group
// from the answers, so that whoever reads rows asks for many at once.

#include <span>
#include <vector>

#include "fpdist/data/tokenizer.hpp"
#include "src/data/rows/format.hpp"

namespace fpdist::data {

class EncodedRow {
 public:
  virtual ~EncodedRow() = default;
  /// What has to be rendered for requests().
  virtual std::vector<TextRequest> renderings() const = 0;
  virtual std::vector<TextRequest> requests(std::span<const RenderedText> rendered) const = 0;
  /// The group, from the answers to requests(). Throws DataError for what the tokenizer could not do.
  virtual MadeGroup make(std::span<const EncodedText> encoded) const = 0;
};

}  // namespace fpdist::data
