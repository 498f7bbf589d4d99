// Nothing that a run reads is lost, whatever its paths are called: runs with random places and spellings of what they
// read and of where they write. Prints the seed of a case that fails.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

class Spellings : public ::testing::Test {
 protected:
  Spellings() : before_(fs::current_path()) {
    at::set_num_threads(1);
    const arch::Model model = arch::model_of_shape(
        "llama", {.layers = 1, .hidden = 8, .intermediate = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .vocab = 300});
    checkpoint::NamedTensors tensors;
    for (const auto& [name, shape] : arch::parameters(model, Head::kLanguageModel))
      tensors.emplace_back(name, at::full(shape, 0.1));
    checkpoint::export_hf_directory(scratch_ / "made", tensors,
                                    {.config_json = arch::export_config_json(model, {.dtype = "float32"})});
  }
  ~Spellings() override {
    fs::current_path(before_);
    unmount();
  }
  void unmount() {
    for (const std::string& place : mounted_) ::umount2(place.c_str(), MNT_DETACH);
    mounted_.clear();
  }

  /// An empty folder for a case, which becomes the current one.
  void begin(uint64_t seed) {
    unmount();
    fs::current_path(before_);
    fs::remove_all(scratch_ / "case");
    fs::create_directories(scratch_ / "case/work");
    fs::current_path(scratch_ / "case/work");
    rng_ = Rng(seed, 0x5be11);
    links_ = 0;
  }

  template <typename... Options>
  std::string one_of(Options... options) {
    const std::vector<std::string> all{options...};
    return all[rng_.below(all.size())];
  }

  /// Another spelling of `path`, which is relative to the current folder and there.
  std::string respelt(const std::string& path) {
    std::string name = path;
    const bool is_folder = fs::is_directory(path);
    for (uint64_t turns = rng_.below(3); turns > 0; --turns) switch (rng_.below(8)) {
        case 0:
          if (!fs::path(name).is_absolute()) name = "./" + name;
          break;
        case 1:
          if (!fs::path(name).is_absolute()) name = "../work/" + name;
          break;
        case 2:
          if (is_folder) name += one_of("/", "//", "/.", "/./");
          break;
        case 3:
          name = fs::absolute(name).string();
          break;
        case 4: {  // a link to it
          const std::string link = text("../link", links_++);
          fs::create_symlink(fs::absolute(name), link);
          name = link;
          break;
        }
        case 5: {  // a link to the folder that it is in
          const fs::path whole = fs::absolute(fs::path(path)).lexically_normal();
          const std::string link = text("../link", links_++);
          fs::create_directory_symlink(whole.parent_path(), link);
          name = text(link, "/", whole.filename().string());
          break;
        }
        case 6: {
          if (is_folder) break;
          const std::string second = text("../name", links_++);
          fs::create_hard_link(fs::canonical(path), second);
          name = second;
          break;
        }
        case 7: {
          if (!is_folder || fs::is_symlink(path)) break;
          const std::string place = text("../mount", links_++);
          fs::create_directories(place);
          if (::mount(path.c_str(), place.c_str(), nullptr, MS_BIND, nullptr) != 0) break;
          mounted_.push_back(fs::canonical(place).string());
          name = place;
          break;
        }
      }
    return name;
  }

  std::string put(const std::string& path, const std::string& bytes) {
    if (fs::path(path).has_parent_path()) fs::create_directories(fs::path(path).parent_path());
    test::spill(path, bytes);
    kept_[path] = bytes;
    return path;
  }

  /// A file, the folder that it is in, or a pattern that finds it.
  std::string data_of(const std::string& rows) {
    const uint64_t kind = rng_.below(4);
    if (!rows.ends_with(".jsonl") || kind > 1) return respelt(rows);
    const std::string folder = fs::path(rows).has_parent_path() ? fs::path(rows).parent_path().string() : ".";
    return respelt(folder) + (kind == 0 ? "" : "/*.jsonl");
  }

  /// A run whose model, data and costs lie at random places, in its output_dir often.
  Config random_run() {
    kept_.clear();
    Config config;
    config.method = Method::kSft;
    config.train = {.groups_per_step = 1,
                    .max_steps = 2,
                    .output_dir = one_of("out", "deep/out", "."),
                    .save_steps = static_cast<int64_t>(rng_.below(2)),
                    .overwrite_output_dir = rng_.below(8) > 0};
    const std::string out = config.train.output_dir;
    fs::create_directories(out);
    put(out + "/" +
            one_of("notes.txt", "final/notes.txt", "logs/mine.txt", "checkpoint-1/scores.json", "final.tmp/notes.txt"),
        "the user's");
    const std::string model =
        rng_.below(2) ? out + "/" + one_of("final", "checkpoint-1", "checkpoint-7", "final.tmp", "final.1.tmp", "mine")
                      : "model";
    for (const auto& entry : fs::directory_iterator(scratch_ / "made"))
      put(model + "/" + entry.path().filename().string(), test::slurp(entry.path().string()));
    const std::string row = R"({"prompt": "a", "completion": "b"})"
                            "\n";
    const std::string rows = put(
        rng_.below(2) ? out + "/" +
                            one_of("rows.jsonl", "metrics.jsonl", "trace-1.json", "logs/rank_0.log",
                                   "metrics.jsonl.tmp", "config.resolved.yaml", "final/vocab.json", "costs.yaml.tmp")
                      : one_of("rows.jsonl", "data/rows.jsonl"),
        row + row);
    if (rng_.below(3) == 0) {
      const std::string costs = rng_.below(2) ? out + "/" + one_of("costs.yaml", "mine.yaml") : "costs.yaml";
      if (costs != rows) config.plan.costs = respelt(put(costs, plan::to_text({.layers = 1})));
    }
    if (rng_.below(6) == 0) {  // a model of links, as hub caches are
      fs::create_directories("cache");
      for (const auto& entry : fs::directory_iterator(model))
        if (!entry.is_directory()) fs::create_symlink(fs::absolute(entry.path()), "cache" / entry.path().filename());
      config.model.path = respelt("cache");
    } else {
      config.model.path = respelt(model);
    }
    config.data.tokenizer = "bytes";
    config.data.path = {data_of(rows)};
    config.train.output_dir = respelt(out);
    return config;
  }

  const test::Scratch scratch_;
  const fs::path before_;
  Rng rng_{0, 0};
  int links_ = 0;
  std::vector<std::string> mounted_;
  std::map<std::string, std::string> kept_;  ///< what was there before the run: path and bytes
};

TEST_F(Spellings, OfTwoHundredRandomRunsNoneLosesAFile) {
  int ran = 0, refused = 0, mounts = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    begin(seed);
    const Config config = random_run();
    mounts += static_cast<int>(mounted_.size());
    NullLog log;
    const std::string said = test::refusal<ConfigError>(
        [&] { comm::run_threads(1, [&](comm::World& world) { Trainer(world, config, log).train(); }); });
    (said == "accepted" ? ran : refused)++;
    for (const auto& [path, bytes] : kept_)
      ASSERT_EQ(test::slurp(path), bytes)
          << "seed " << seed << ": " << path << " is lost; output_dir " << config.train.output_dir << ", model "
          << config.model.path << ", data " << config.data.path[0] << "; the run was " << said;
    EXPECT_TRUE(said != "accepted" || fs::exists(config.train.output_dir + "/final/model.safetensors")) << seed;
  }
  std::cout << "seeds 0 to 199: " << ran << " ran, " << refused << " were refused, " << mounts
            << " mounts, 0 files lost\n";
  EXPECT_GT(ran, 40);
  EXPECT_GT(refused, 40);
}

TEST_F(Spellings, TheRefusalNamesBothAndNothingIsTouched) {
  begin(0);
  kept_.clear();
  for (const auto& entry : fs::directory_iterator(scratch_ / "made"))
    put("out/final/" + entry.path().filename().string(), test::slurp(entry.path().string()));
  put("rows.jsonl", R"({"prompt": "a", "completion": "b"})");
  put("out/metrics.jsonl", "of an earlier run");
  Config config;
  config.method = Method::kSft;
  config.model.path = "out/final/";
  config.data.path = {"rows.jsonl"}, config.data.tokenizer = "bytes";
  config.train = {.groups_per_step = 1, .max_steps = 1, .output_dir = "./out", .overwrite_output_dir = true};
  NullLog log;
  comm::run_threads(2, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    test::expect_words(
        test::error_of<ConfigError>([&] { trainer.train(); }),
        {"train.output_dir ./out", "./out/final/config.json", "model.path out/final/config.json", "choose another"});
    test::expect_words(test::error_of<ConfigError>([&] { trainer.save("../work/out/final"); }),
                       {"saving to ", "save to another folder"});
    const std::vector<std::string> mine = {"out/metrics.jsonl"};
    trainer.add_inputs(mine);
    EXPECT_EQ(trainer.input_at("./out/metrics.jsonl"), "the caller's out/metrics.jsonl");
    EXPECT_EQ(trainer.input_at("out/none"), "");
    trainer.save("elsewhere");
  });
  for (const auto& [path, bytes] : kept_) EXPECT_EQ(test::slurp(path), bytes) << path;
  EXPECT_FALSE(fs::exists("out/logs"));
}

TEST_F(Spellings, MeasuredCostsAndTimelinesDoNotGoOverAnInputEither) {
  begin(0);
  put("rows/trace-2.json", R"({"prompt": "a", "completion": "b"})");
  Config config;
  config.method = Method::kSft;
  config.model.preset = "tiny";
  config.data.path = {"rows/trace-2.json"};
  config.train.profile_steps = 2;
  NullLog log;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    test::expect_words(test::error_of<ConfigError>([&] { trainer.set_output_dir("../work/rows"); }),
                       {"trace-2.json", "data.path"});
    trainer.set_output_dir("..");
  });
}

}  // namespace
}  // namespace fpdist::trainer
