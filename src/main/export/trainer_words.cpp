#include "src/main/export/trainer_words.hpp"

#include "fpdist/core/log.hpp"
#include "src/trainer/run/run_notes.hpp"
#include "src/trainer/saving/trainer_state.hpp"
#include "src/trainer/weights/pad_token.hpp"

namespace fpdist::main_program {

std::optional<int64_t> pad_token_of(const checkpoint::TrainingState& state, const arch::Model& model) {
  const std::string where = state.directory() + "/state.json";
  trainer::SeenTokens seen(model.vocab_size);
  seen.set_text(trainer::parse_trainer_state(state.state_json(), where).seen_tokens, where);
  NullLog quiet;
  return trainer::pad_for_scores(model, seen, state.directory(), quiet);
}

std::string first_state(const arch::Model& model, Head head) {
  trainer::TrainerState state;
  state.mesh = {.dp = 1};
  state.notes = trainer::to_json(trainer::RunNotes{});
  if (head == Head::kScore) state.seen_tokens = trainer::SeenTokens(model.vocab_size).to_text();
  return trainer::to_json(state);
}

}  // namespace fpdist::main_program
