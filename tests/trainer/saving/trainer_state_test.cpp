// What of a training state is no tensor.

#include "src/trainer/saving/trainer_state.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "src/trainer/run/run_notes.hpp"
#include "src/trainer/saving/libraries.hpp"
#include "src/trainer/weights/pad_token.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

using test::error_of, test::expect_words;

TrainerState some_state() {
  return {.step = 12,
          .updates = 11,
          .tokens_seen = int64_t{1} << 40,
          .mesh = {.dp = 2, .pp = 1, .cp = 3, .tp = 1},
          .libraries = library_versions(),
          .settings = settings_of(Config()),
          .planner = {.costs = "per_row: 7\n", .costs_version = 2, .steps_watched = 9, .seconds_per_unit = 0.1 + 0.2},
          .guard = {.recent_norms = {0.1 + 0.2, 3}, .skipped = 4},
          .seen_tokens = "-he-",
          .notes = R"({"best":{"step":3}})"};
}

TEST(TrainerState, ComesBackAsItWas) {
  const TrainerState before = some_state(), now = parse_trainer_state(to_json(before), "state.json");
  EXPECT_EQ(to_json(now), to_json(before));
  EXPECT_EQ(now.step, 12);
  EXPECT_EQ(now.updates, 11);
  EXPECT_EQ(now.tokens_seen, int64_t{1} << 40);
  EXPECT_EQ(now.mesh, before.mesh);
  EXPECT_EQ(now.settings, before.settings);
  EXPECT_EQ(now.planner.seconds_per_unit, before.planner.seconds_per_unit);
  EXPECT_EQ(now.guard.recent_norms, before.guard.recent_norms);
  EXPECT_EQ(now.guard.skipped, 4);
  EXPECT_EQ(now.notes, before.notes);
}

TEST(TrainerState, ANewerFormatIsRefusedAndSoIsWhatIsNone) {
  nlohmann::json json = nlohmann::json::parse(to_json(some_state()));
  json["format"] = 2;
  expect_words(error_of<ModelFileError>([&] { parse_trainer_state(json.dump(), "c/state.json"); }),
               {"c/state.json: format 2 is newer than this program's, 1", "the program that saved it"});
  json["format"] = 1;
  json.erase("updates");
  expect_words(error_of<ModelFileError>([&] { parse_trainer_state(json.dump(), "c/state.json"); }),
               {"c/state.json: ", "updates"});
  for (const char* text : {"", "{", "[]", "{\"format\": \"1\"}", "{\"format\": 1, \"step\": []}"})
    expect_words(error_of<ModelFileError>([&] { parse_trainer_state(text, "c/state.json"); }), {"c/state.json"});
  expect_words(error_of<ModelFileError>([] { parse_run_notes("{}", "c"); }), {"c: its notes are not of a run"});
}

TEST(Settings, ThoseThatChangeResultsAreNamedAndAllOthersAreFree) {
  const auto changed = [](const std::function<void(Config&)>& change, const std::string& schedule = "linear") {
    Config before;
    before.train.max_steps = 100;
    before.optim.lr_scheduler_type = schedule;
    Config now = before;
    change(now);
    return changed_results(settings_of(before), settings_of(now));
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(changed([](Config& c) { c.optim.learning_rate = 0.5; }), Lines{"optim.learning_rate: 1e-06 -> 0.5"});
  EXPECT_EQ(changed([](Config& c) { c.method = Method::kDpo; }), Lines{"method: sft -> dpo"});
  EXPECT_EQ(changed([](Config& c) { c.train.max_steps = 7; }), Lines{"train.max_steps: 100 -> 7"});
  EXPECT_EQ(changed([](Config& c) { c.train.max_steps = 7; }, "constant"), Lines{}) << "a longer run";
  EXPECT_EQ(changed([](Config& c) {
              c.parallel.tp = 4, c.pack.max_tokens = 9, c.plan.calibrate_steps = 5, c.model.device = "cuda";
              c.train.output_dir = "b", c.train.logging_steps = 9, c.train.save_steps = 8, c.comm.share_gpus = true;
              c.model.gradient_checkpointing = true, c.data.path = {"c"}, c.train.comm_timeout_seconds = 3;
            }),
            Lines{});
}

TEST(Settings, AKeyThatOneOfTheTwoHasNotIsNotHeldAgainstTheOther) {
  EXPECT_EQ(changed_results({{"optim.new", "1"}}, {{"optim.newer", "2"}}), std::vector<std::string>{});
}

TEST(Libraries, AreNamedWhereTheyAreOthers) {
  auto before = library_versions();
  EXPECT_EQ(changed_libraries(before), "");
  for (const char* name : {"torch", "mpi", "blas", "cpu", "libtorch_cpu.so"})
    EXPECT_TRUE(before.contains(name)) << name;
  before["cpu"] = "none";
  before["another"] = "1";
  EXPECT_EQ(changed_libraries(before), "cpu none -> " + library_versions().at("cpu"));
}

TEST(SeenTokens, AreSeenByALaterProcess) {
  SeenTokens seen(4), later(4);
  later.set_text("-he-", "state.json");
  EXPECT_EQ(later.to_text(), "-he-");
  EXPECT_TRUE(later.ends_in(2) && !later.ends_in(1));
  EXPECT_EQ(later.spare(), 3);
  expect_words(error_of<ModelFileError>([&] { seen.set_text("-h", "state.json"); }), {"state.json", "2 tokens", "4"});
}

TEST(RunNotes, TellOtherDataFromTheSame) {
  const DataMark mark{.groups = 3, .samples = "aa", .order = "bb", .settings = {{"data.path", "[x]"}}};
  DataMark moved = mark, other = mark, shuffled = mark;
  moved.settings["data.path"] = other.settings["data.path"] = "[y]";
  other.samples = "cc";
  shuffled.order = "dd";
  EXPECT_TRUE(changed_data(mark, moved).empty());
  EXPECT_EQ(changed_data(mark, other).back(), "data.path: [x] -> [y]");
  EXPECT_EQ(changed_data(mark, other).size(), 2U);
  EXPECT_EQ(changed_data(mark, shuffled).size(), 1U);
  RunNotes notes{.data = mark, .tokens_logical = 0.1, .tokens_computed = 3};
  notes.evaluation = R"({"best":1})";
  EXPECT_EQ(to_json(parse_run_notes(to_json(notes), "c")), to_json(notes));
}

}  // namespace
}  // namespace fpdist::trainer
