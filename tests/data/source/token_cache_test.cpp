#include "src/data/source/token_cache.hpp"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/loader.hpp"
#include "src/core/clock.hpp"
#include "src/data/fields.hpp"
#include "src/data/source/cached_dataset.hpp"
#include "src/files/files.hpp"
#include "tests/data/source/write_cache.hpp"
#include "tests/support/files/own_memory.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;
constexpr Digest kKey{.high = 7, .low = 9};

std::optional<double> maybe(Rng& rng) {
  return rng.below(2) == 0 ? std::nullopt : std::optional<double>(static_cast<double>(rng.below(100)) / 7);
}

Sample random_sample(Rng& rng) {
  Sample sample;
  for (uint64_t t = rng.below(20); t > 0; --t) {
    sample.token.push_back(static_cast<int32_t>(rng.below(1000)));
    sample.target.push_back(rng.below(3) == 0 ? kIgnore : sample.token.back());
  }
  if (rng.below(2) == 0) sample.old_logp.assign(sample.token.size(), -0.25);
  if (rng.below(2) == 0) sample.weight.assign(sample.token.size(), 0.5);
  if (rng.below(2) == 0) sample.ref_logp.assign(sample.token.size(), -1.5);
  sample.prompt_length = static_cast<int32_t>(rng.below(sample.token.size() + 1));
  sample.reward = maybe(rng), sample.advantage = maybe(rng), sample.truncated = rng.below(2) == 0;
  return sample;
}

Dataset random_dataset(uint64_t seed) {
  Rng rng(seed);
  Dataset dataset;
  dataset.file = {"a.jsonl", "b.jsonl"}, dataset.entry = {1, 0};
  for (uint64_t g = rng.below(30); g > 0; --g) {
    Group& group = dataset.group.emplace_back();
    group.id = std::ssize(dataset.group) - 1;
    group.margin = maybe(rng), group.weight = maybe(rng);
    for (uint64_t s = rng.below(4) + 1; s > 0; --s) group.sample.push_back(random_sample(rng));
    dataset.place.push_back({.file = static_cast<int32_t>(rng.below(2)), .line = group.id + 1});
    dataset.unit.push_back(static_cast<int64_t>(rng.below(5)));
  }
  dataset.dropped_rows = 3, dataset.truncated_samples = 4, dataset.differing_prompts = 5, dataset.max_token_id = 999;
  dataset.skipped = {"a.jsonl:7:1: why"};
  return dataset;
}

void expect_same(const Group& a, const Group& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.margin, b.margin);
  EXPECT_EQ(a.weight, b.weight);
  ASSERT_EQ(a.sample.size(), b.sample.size());
  for (size_t s = 0; s < a.sample.size(); ++s) {
    const auto& [token, target, prompt, old, ref, reward, advantage, truncated, weight, prefix, prefix_advantage] =
        a.sample[s];
    EXPECT_EQ(token, b.sample[s].token);
    EXPECT_EQ(target, b.sample[s].target);
    EXPECT_EQ(prompt, b.sample[s].prompt_length);
    EXPECT_EQ(old, b.sample[s].old_logp);
    EXPECT_EQ(ref, b.sample[s].ref_logp);
    EXPECT_EQ(reward, b.sample[s].reward);
    EXPECT_EQ(advantage, b.sample[s].advantage);
    EXPECT_EQ(truncated, b.sample[s].truncated);
    EXPECT_EQ(weight, b.sample[s].weight);
    EXPECT_EQ(prefix, b.sample[s].prefix_length);
    EXPECT_EQ(prefix_advantage, b.sample[s].prefix_advantage);
  }
}

class Cache : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return (folder_ / name).string();
  }
  std::string slurp(const std::string& path) const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  const test::Scratch scratch_;
  const fs::path folder_ = scratch_.path();
  const std::string path_ = (folder_ / "x.tokens").string();
};

TEST_F(Cache, GivesBackWhatWasWritten) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    const Dataset dataset = random_dataset(seed);
    test::write_token_cache(path_, kKey, dataset, {{LogLevel::kWarning, "said"}});
    const TokenCache cache(path_, kKey);
    ASSERT_EQ(cache.groups(), std::ssize(dataset.group));
    for (int64_t id = cache.groups(); id-- > 0;) expect_same(cache.group(id), dataset.group[static_cast<size_t>(id)]);
    EXPECT_EQ(cache.said().at(0).line, "said");
    const Dataset all = cache.dataset();
    EXPECT_EQ(all.unit, dataset.unit);
    EXPECT_EQ(all.file, dataset.file);
    EXPECT_EQ(all.entry, dataset.entry);
    EXPECT_EQ(all.skipped, dataset.skipped);
    EXPECT_EQ(all.dropped_rows, 3);
    EXPECT_EQ(all.max_token_id, 999);
    ASSERT_EQ(all.place.size(), dataset.place.size());
    for (size_t i = 0; i < all.place.size(); ++i) EXPECT_EQ(all.where(i), dataset.where(i));
    EXPECT_THROW(cache.group(cache.groups()), DataError);
  }
}

TEST_F(Cache, EveryDamageIsNoticed) {
  test::write_token_cache(path_, kKey, random_dataset(5), {{LogLevel::kInfo, "said"}});
  const std::string whole = slurp(path_);
  const auto read_all = [&](const std::string& bytes) {
    write("x.tokens", bytes);
    return test::error_of<DataError>([&] { (void)TokenCache(path_, kKey).dataset(); });
  };
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    const size_t at = rng.below(damaged.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << rng.below(8)));
    EXPECT_NE(read_all(damaged).find("x.tokens"), std::string::npos) << at;
  }
  for (size_t sixteenth = 0; sixteenth < 16; ++sixteenth)
    test::expect_words(read_all(whole.substr(0, whole.size() * sixteenth / 16)), {"is cut short", "remove the file"});
  write("x.tokens", whole);
  test::expect_words(test::error_of<DataError>([&] { TokenCache(path_, Digest{1, 2}); }), {"is of other data"});
  test::expect_words(test::error_of<DataError>([&] { TokenCache(write("y", std::string(200, 'x')), kKey); }),
                     {"is no token cache"});
}

TEST_F(Cache, OpeningALargeOneReadsItsIndexAlone) {
  Dataset dataset;
  dataset.group.resize(64);
  for (size_t g = 0; g < 64; ++g) {
    dataset.group[g].id = static_cast<int64_t>(g);
    dataset.group[g].sample.emplace_back().token.assign(size_t{1} << 18, static_cast<int32_t>(g));
    dataset.group[g].sample[0].target = dataset.group[g].sample[0].token;
    dataset.place.push_back({});
  }
  dataset.file = {"a"}, dataset.entry = {0};
  test::write_token_cache(path_, kKey, dataset, {});
  EXPECT_GT(fs::file_size(path_), uintmax_t{128} << 20);
  const auto start = Clock::now();
  const TokenCache cache(path_, kKey);
  EXPECT_LT(seconds_since(start), 0.05);
  EXPECT_EQ(cache.group(63).sample[0].token[5], 63);
}

TEST_F(Cache, GroupsThatStayInTheFileTakeNoMemory) {
  if (test::kMemoryIsKept) GTEST_SKIP();
  {
    Dataset dataset;
    dataset.file = {"a"}, dataset.entry = {0};
    for (int64_t g = 0; g < 512; ++g) {
      dataset.group.push_back({.id = g, .sample = {}, .margin = {}});
      dataset.group.back().sample.emplace_back().token.assign(size_t{1} << 16, static_cast<int32_t>(g));
      dataset.place.push_back({});
    }
    test::write_token_cache(path_, kKey, dataset, {});
  }
  const int64_t before = test::own_memory();
  Dataset mapped;
  const auto cache = std::make_shared<const TokenCache>(path_, kKey);
  mapped = cache->facts();
  mapped.source = cache;
  ASSERT_EQ(mapped.size(), 512);
  int64_t sum = 0;
  for (int64_t g = 0; g < mapped.size(); ++g) sum += mapped.get(g).sample[0].token[9];
  EXPECT_EQ(sum, 512 * 511 / 2);
  EXPECT_LT(test::own_memory() - before, int64_t{8} << 20) << "of 128 MiB of tokens";
}

class CachedRead : public Cache {
 protected:
  /// A tokenizer that counts what it is asked.
  class Counting final : public Tokenizer {
   public:
    const TokenizerFacts& facts() override { return bytes_->facts(); }
    std::vector<EncodedText> encode(std::span<const TextRequest> requests) override {
      ++calls;
      if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(400));
      return bytes_->encode(requests);
    }
    std::vector<RenderedText> render(std::span<const TextRequest> chats) override { return bytes_->render(chats); }
    std::vector<RenderedText> decode(std::span<const std::vector<int32_t>> ids) override { return bytes_->decode(ids); }
    std::vector<std::string> token_bytes() override { return bytes_->token_bytes(); }
    std::string identity() const override { return name; }
    int calls = 0;
    bool slow = false;
    std::string name = "counting";

   private:
    std::unique_ptr<Tokenizer> bytes_ = make_byte_tokenizer();
  };

  Dataset read(LogSink& log) { return read_cached(options_, Method::kSft, tokenizer_, use_, log); }
  DataOptions options_ = [&] {
    DataOptions options;
    options.path = {write("rows.jsonl", "{\"text\": \"abc\"}\n{\"text\": \"a long text\"}\n")};
    options.max_length = 6;
    return options;
  }();
  CacheUse use_{.folder = (folder_ / "cache").string()};
  Counting tokenizer_;
};

TEST_F(CachedRead, TheSecondReadIsTheFirstAndAsksNobody) {
  test::HeardLog first, second;
  const Dataset a = read(first), b = read(second);
  EXPECT_EQ(tokenizer_.calls, 1);
  ASSERT_EQ(a.group.size(), b.group.size());
  for (size_t i = 0; i < a.group.size(); ++i) expect_same(a.group[i], b.group[i]);
  EXPECT_NE(first.said().find("cut 1 samples"), std::string::npos);
  EXPECT_EQ(first.said(), second.said());
}

TEST_F(CachedRead, WhatStaysInTheFileIsWhatComesIntoMemory) {
  NullLog log;
  const Dataset whole = read(log);
  use_.stays_mapped = true;
  const Dataset mapped = read(log);
  EXPECT_TRUE(mapped.group.empty());
  ASSERT_EQ(mapped.size(), whole.size());
  for (int64_t id = 0; id < whole.size(); ++id) expect_same(mapped.get(id), whole.get(id));
  DataOptions by_prefix;
  by_prefix.batching = Batching::kPrefix, by_prefix.min_shared_tokens = 1;
  EXPECT_EQ(make_loader(mapped, by_prefix, 2, 1).step(0), make_loader(whole, by_prefix, 2, 1).step(0));
}

/// The most memory that whoever makes the cache of `options` had for it, in another process; -1 where that fails.
int64_t memory_of_writer(const DataOptions& options, Tokenizer& tokenizer, const CacheUse& use, int64_t groups) {
  int ends[2];
  if (::pipe(ends) != 0) return -1;
  if (::fork() == 0) {
    ::malloc_trim(0);  // what earlier tests have left would be taken first
    const int64_t before = test::own_memory();
    int64_t most = 0;
    std::atomic<bool> is_done = false;
    std::thread look([&] {
      for (; !is_done; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
        most = std::max(most, test::own_memory() - before);
    });
    NullLog log;
    const Dataset data = read_cached(options, Method::kSft, tokenizer, use, log);
    is_done = true, look.join();
    if (data.size() != groups) most = -1;
    ::_exit(::write(ends[1], &most, sizeof most) == sizeof most ? 0 : 1);
  }
  int64_t most = -1;
  ::wait(nullptr);
  EXPECT_EQ(::read(ends[0], &most, sizeof most), sizeof most);
  ::close(ends[0]), ::close(ends[1]);
  return most;
}

TEST_F(CachedRead, WhoWritesItNeedsNoMemoryForAll) {
  if (test::kMemoryIsKept) GTEST_SKIP();
  std::string ids = "[1", labels = "[-100";
  for (int t = 1; t < 20'000; ++t) ids += ",1", labels += ",1";
  std::string rows;  // of 40 prompts
  for (int i = 0; i < 1600; ++i)
    rows += "{\"input_ids\": [" + std::to_string(i % 40) + ids.substr(2) + "], \"labels\": " + labels + "]}\n";
  options_.path = {write("long.jsonl", rows)}, options_.max_length = 20'000;
  rows = {};
  use_.stays_mapped = true;
  for (const auto& [by, groups] : {std::pair(GroupBy::kRow, 1600), {GroupBy::kPrompt, 40}}) {
    options_.group_by = by;
    const int64_t most = memory_of_writer(options_, tokenizer_, use_, groups);
    EXPECT_GT(most, 0);
    EXPECT_LT(most, int64_t{160} << 20) << "of 256 MB of tokens and targets, group_by " << static_cast<int>(by);
  }
}

TEST_F(CachedRead, JoinedRowsComeFromItAsFromTheFiles) {
  std::string rows;
  for (int i = 0; i < 30; ++i)
    rows += "{\"prompt\": \"p" + std::to_string(i % 7) + "\", \"completion\": \"" + std::to_string(i) +
            "\", \"reward\": 1, \"uid\": " + std::to_string(i % 4) + "}\n";
  write("rows.jsonl", rows);
  for (const GroupBy by : {GroupBy::kPrompt, GroupBy::kUid}) {
    options_.group_by = by;
    test::HeardLog made, again;
    NullLog quiet;
    const Dataset wanted = read_dataset(options_, Method::kGrpo, tokenizer_, quiet);
    const auto read_as_rollouts = [&](LogSink& log) {
      return read_cached(options_, Method::kGrpo, tokenizer_, use_, log);
    };
    const Dataset first = read_as_rollouts(made), second = read_as_rollouts(again);
    ASSERT_EQ(wanted.size(), by == GroupBy::kPrompt ? 7 : 4);
    for (const Dataset* got : {&first, &second}) {
      ASSERT_EQ(got->size(), wanted.size());
      for (size_t g = 0; g < wanted.group.size(); ++g) {
        expect_same(got->group[g], wanted.group[g]);
        EXPECT_EQ(got->where(g), wanted.where(g));
      }
    }
    for (const test::HeardLog* log : {&made, &again})
      test::expect_words(log->said(), {"the rewards of a group are equal in each of the"});
    for (const auto& entry : fs::directory_iterator(use_.folder)) EXPECT_NE(entry.path().extension(), ".rows");
  }
}

TEST_F(CachedRead, EntriesOfDataPathAreKeptAndPartOfTheKey) {
  NullLog log;
  write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  write("b.jsonl", "{\"text\": \"c\"}\n{\"text\": \"d\"}\n");
  options_.path = {(folder_ / "a.jsonl").string(), (folder_ / "b.jsonl").string()};
  options_.mixture = {{options_.path[1], "3"}};
  const Dataset first = read(log);
  use_.stays_mapped = true;
  const Dataset cached = read(log);
  EXPECT_EQ(tokenizer_.calls, 1);
  EXPECT_EQ(cached.entry, (std::vector<int32_t>{0, 1}));
  const Loader wanted = make_loader(first, options_, 3, 7), got = make_loader(cached, options_, 3, 7);
  EXPECT_EQ(got.steps_per_epoch(), 3);
  for (int64_t step = 0; step < 9; ++step) EXPECT_EQ(got.step(step), wanted.step(step));
  options_.path = {(folder_ / "[ab].jsonl").string()}, options_.mixture.clear();
  EXPECT_EQ(read(log).entry, (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(tokenizer_.calls, 2) << "the same files, named otherwise";
}

TEST_F(CachedRead, WhateverChangesMakesAnother) {
  NullLog log;
  read(log);
  const auto changed = [&](auto change) {
    const int before = tokenizer_.calls;
    change();
    read(log);
    return tokenizer_.calls == before + 1;
  };
  EXPECT_TRUE(changed([&] { write("rows.jsonl", "{\"text\": \"abd\"}\n"); }));
  EXPECT_TRUE(changed([&] { options_.max_length = 7; }));
  EXPECT_TRUE(changed([&] { options_.truncation_mode = Truncation::kKeepEnd; }));
  EXPECT_TRUE(changed([&] { options_.completion_only_loss = false; }));
  EXPECT_TRUE(changed([&] { options_.train_on_all = true; }));
  EXPECT_TRUE(changed([&] { options_.on_error = OnError::kSkip; }));
  EXPECT_TRUE(changed([&] { options_.columns = {{"prompt", "q"}}; }));
  EXPECT_TRUE(changed([&] { tokenizer_.name = "another"; }));
  EXPECT_FALSE(changed([&] { options_.shuffle = false, options_.batching = Batching::kPrefix; })) << "the same groups";
  test::spill(use_.folder + "/mine.tokens", "x");
  const Digest kept = cache_key(options_, Method::kSft, tokenizer_);
  EXPECT_EQ(prune_caches(use_.folder, {&kept, 1}), 8);
  EXPECT_TRUE(fs::exists(use_.folder + "/mine.tokens")) << "no cache by its name";
  EXPECT_FALSE(changed([] {})) << "the one in use stays";
}

TEST_F(CachedRead, NothingIsWrittenWhereItMayNot) {
  NullLog log;
  use_.may_write = false;
  EXPECT_EQ(read(log).group.size(), 2U);
  EXPECT_FALSE(fs::exists(use_.folder));
}

TEST_F(CachedRead, AFailedReadLeavesNoCacheAndNoLock) {
  NullLog log;
  write("rows.jsonl", "{\"text\": 7}\n");
  EXPECT_THROW(read(log), DataError);
  EXPECT_THROW(read(log), DataError) << "the lock is free";
  for (const auto& entry : fs::directory_iterator(use_.folder)) EXPECT_EQ(entry.path().extension(), ".lock");
}

TEST_F(CachedRead, ProcessesMakeItOnceAndADeadMakerLetsGo) {
  tokenizer_.slow = true;
  const auto reads = [&](bool dies) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    NullLog log;
    if (dies)
      ::alarm(0), std::thread([] { std::this_thread::sleep_for(std::chrono::milliseconds(150)), ::_exit(9); }).detach();
    read(log);
    ::_exit(tokenizer_.calls);
  };
  const auto ended = [](pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(ended(reads(/*dies=*/true)), 9);
  const std::vector<pid_t> children{reads(false), reads(false), reads(false)};
  int made = 0;
  for (const pid_t child : children) made += ended(child);
  EXPECT_EQ(made, 1);
}

TEST_F(CachedRead, WaitingEnds) {
  const std::string lock = cache_path(use_.folder, cache_key(options_, Method::kSft, tokenizer_)) + ".lock";
  fs::create_directories(use_.folder);
  const files::FileLock held(lock, 0);
  use_.wait_seconds = 0.1;
  NullLog log;
  test::expect_words(test::error_of<DiskError>([&] { read(log); }),
                     {"another process has held ", ".lock for 0.1 seconds"});
}

TEST_F(CachedRead, TextIsToldFromTokens) {
  EXPECT_TRUE(begins_with_text(options_, Method::kSft));
  write("rows.jsonl", R"({"input_ids": [1], "labels": [1]})");
  EXPECT_FALSE(begins_with_text(options_, Method::kSft));
  write("rows.jsonl", "nonsense");
  EXPECT_FALSE(begins_with_text(options_, Method::kSft));
}

}  // namespace
}  // namespace fpdist::data
