#pragma once
// generate, private: which completions are in flight. Prompts enter whole and in order, as completions end and as rows
// allow (Zheng et al., "BatchLLM", 2024: by memory, not by number alone); how long a completion will be is foreseen
// from those that ended. Where rows run out all the same, the youngest completion leaves: its tokens are kept, its rows
// are computed again when it comes back. Pure: the same calls give the same order.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fpdist/generate/generate.hpp"
#include "src/generate/sharing.hpp"

namespace fpdist::generate {

/// One completion.
struct Decoding {
  enum class Standing : uint8_t { kAhead, kInFlight, kPaused, kDone };
  size_t prompt = 0;
  uint64_t draw = 0;
  std::vector<int32_t> history;  ///< prompt and completion, for the penalty; empty without
  Completion completion;
  std::string tail;  ///< of its bytes, in which a stop text may have begun
  Standing standing = Standing::kAhead;
  int64_t room = 0;   ///< rows of its leaf, in flight
  int32_t leaf = -1;  ///< first place of its leaf; -1: it is in no wave
  bool waits = true;  ///< rows that its next one sees are not computed
  int64_t tokens() const { return static_cast<int64_t>(completion.token.size()); }
  bool is_in_flight() const { return standing == Standing::kInFlight; }
  bool has_room() const { return tokens() <= room; }
};

class Admission {
 public:
  using Prompts = std::span<const std::vector<int32_t>* const>;

  /// `prompts` in sharing's order; `all`: num_generations of each, in order, kAhead. `most_rows`: of a wave.
  Admission(Prompts prompts, std::span<Decoding> all, const SamplingOptions& options, int64_t most_rows);

  /// Somebody in flight is out of room, or others may enter.
  bool wants_change() const;

  /// Sets standing and room of each; whoever leaves has no leaf. How many had to leave.
  int64_t change();

 private:
  struct Need {
    int64_t flying = 0, rows = 0;
  };
  /// Of those in flight and of `more`, each at its foreseen length, or as long as it is now.
  Need need(bool foreseen, std::span<Decoding* const> more = {}) const;
  int64_t foreseen(const Decoding& one) const;
  bool fits(const Need& need) const { return need.flying <= options_.max_num_seqs && need.rows <= most_rows_; }
  /// Who would enter next: the first paused one, or a prompt's; empty: nobody is left.
  std::vector<Decoding*> next() const;
  void pause_youngest();
  void foresee();
  void give_room();

  const Prompts prompts_;
  const std::span<Decoding> all_;
  const SamplingOptions& options_;
  const Sharing sharing_;
  const int64_t most_rows_;
  int64_t length_ = 0;  ///< foreseen
};

}  // namespace fpdist::generate
