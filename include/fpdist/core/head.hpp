#pragma once
// core: what a model ends in.

namespace fpdist {

/// What a model ends in: log-probs of tokens over the vocabulary, or one score a sample (reward models).
enum class Head { kLanguageModel, kScore };

}  // namespace fpdist
