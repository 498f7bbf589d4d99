#pragma once
// core: what a model ends in.

namespace fpdist {

/// What a model ends in: log-probs of tokens over the vocabulary, one score a sample (reward models), or log-probs of
/// two classes at any token (process reward models).
enum class Head { kLanguageModel, kScore, kTokenClass };

}  // namespace fpdist
