#pragma once
// data: every field of samples and groups with its name, for those who must miss none: what is sent to other ranks,
// what is compared between them.

#include "fpdist/data/sample.hpp"

namespace fpdist::data {

/// visit(name, field) for each field of `sample` (a Sample, const or not), in order. A field that Sample gets and that
/// is not named here does not compile.
template <typename SampleOrConst, typename Visit>
void each_field_of_sample(SampleOrConst& sample, Visit visit) {
  auto& [token, target, prompt_length, old_logp, ref_logp, reward, advantage, truncated, weight, prefix_length,
         prefix_advantage] = sample;
  visit("token", token);
  visit("target", target);
  visit("prompt_length", prompt_length);
  visit("old_logp", old_logp);
  visit("ref_logp", ref_logp);
  visit("reward", reward);
  visit("advantage", advantage);
  visit("truncated", truncated);
  visit("weight", weight);
  visit("prefix_length", prefix_length);
  visit("prefix_advantage", prefix_advantage);
}

/// The same for a group, without its id, which says where it stands, and its samples.
template <typename GroupOrConst, typename Visit>
void each_field_of_group(GroupOrConst& group, Visit visit) {
  auto& [id, sample, margin, weight, source, prefix_context] = group;
  static_cast<void>(id), static_cast<void>(sample);
  visit("margin", margin);
  visit("weight", weight);
  visit("source", source);
  visit("prefix_context", prefix_context);
}

}  // namespace fpdist::data
