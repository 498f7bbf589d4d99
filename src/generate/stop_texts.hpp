#pragma once
// generate, private: texts that end a completion, looked for token by token in the bytes of tokens, so that neither
// where tokens nor where characters begin and end matters.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/generate/options.hpp"

namespace fpdist::generate {

class StopTexts {
 public:
  explicit StopTexts(const SamplingOptions& options);

  /// Whether one ends in the completion's next token. `tail`: the completion's own, empty to begin with; bytes of
  /// earlier tokens that one may have begun in. A token without bytes (a padded vocabulary's) completes none.
  bool complete(std::string& tail, int32_t token) const;

 private:
  std::vector<std::string> texts_;
  size_t longest_ = 0;
  std::shared_ptr<const std::vector<std::string>> bytes_;
};

}  // namespace fpdist::generate
