#pragma once
// generate, private: completions of some prompts on their way. A step computes the next row of every completion in
// flight and, beside them, rows of prompts that nobody has computed yet, up to max_num_batched_tokens in all; who may
// enter and who has to leave is the admission's (admission.hpp). Whenever that changes, the forest is made anew and
// what is computed of it moves along: a prefix that somebody in flight, or somebody who has just ended, has is not
// computed again.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/generate/generate.hpp"
#include "src/generate/admission.hpp"
#include "src/generate/keys.hpp"
#include "src/generate/stop_texts.hpp"

namespace fpdist::generate {

class Session {
 public:
  using Prompts = Admission::Prompts;

  /// `all` as Admission has them, `most_rows` too; `shared`: with prefix_kv, how many rows of each prompt any other one
  /// has, be it here or not.
  Session(const Stages& stages, Prompts prompts, std::span<Decoding> all, const SamplingOptions& options,
          int64_t most_rows, std::vector<int64_t> shared = {});

  /// A step is a token of each completion that can have one. begin() computes what this rank has of it and, on the last
  /// stage, draws; end(), once behind each begin that was true, takes what is drawn. In between other sessions of the
  /// same stages may begin and end, on all ranks the same ones in the same order: while this one is on a later stage,
  /// they are on this one. begin() is false when all are done. Both are collective over the model's ranks.
  bool begin(GenerationReport& report);
  void end(GenerationReport& report);

  /// Rows whose keys and values are held.
  int64_t places() const { return wave_.places(); }

 private:
  void change(GenerationReport& report);
  Moves forest_moves(const Wave& next, std::span<const size_t> prompts, std::vector<bool>& is_computed) const;
  std::vector<OwnRun> own_runs(const Wave& next, std::span<const size_t> prompts,
                               const std::vector<bool>& is_computed) const;
  void collect(const std::vector<bool>& is_computed);
  int32_t first_ahead() const;
  void let_go();
  QueryRows next_rows(GenerationReport& report);
  std::span<const PromptWindow> windows_between(size_t begin, size_t end) const;
  at::Tensor logits(const at::Tensor& hidden) const;
  void draw(const QueryRows& rows, const at::Tensor& hidden);
  void draw_from(const at::Tensor& logits, std::span<const int64_t> row);
  void count(double seconds, GenerationReport& report) const;
  void take(Decoding& one, const double* found) const;

  const Prompts prompts_;
  const std::span<Decoding> all_;
  const SamplingOptions& options_;
  const Sharing sharing_;
  const std::vector<int64_t> shared_;  ///< [prompts], or empty
  Admission admission_;
  const StopTexts stop_texts_;
  Keys keys_;
  Wave wave_;
  std::vector<size_t> in_wave_;        ///< prompts of the wave, ascending
  std::vector<Decoding*> flying_;      ///< by ascending leaf, as the prompts ascend
  int64_t slots_;                      ///< completions that may be in flight
  QueryRows ahead_;                    ///< rows of the wave that are to be computed, prompts' and completions' alike
  size_t computed_ = 0;                ///< so many of them are
  std::vector<GrownLeaf> grown_;       ///< by the rows that are computed next
  std::vector<PromptWindow> windows_;  ///< of these
  std::vector<Decoding*> drawing_;     ///< who draws in the step that is begun
  at::Tensor found_;                   ///< [drawing_, kFound]
  bool is_prefill_ = false;            ///< that step has rows of prompts
};

}  // namespace fpdist::generate
