// Text workers that end, hang, loop or talk nonsense: an error that names what was lost, in time, and nobody left
// behind.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/core/clock.hpp"
#include "src/data/text/text_workers.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::data {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(FPDIST_SOURCE_DIR) / "tests/golden/text";

/// No child of ours is alive, and none is dead and not reaped.
void expect_no_children() {
  errno = 0;
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

/// Ids of our children that run a text worker.
std::vector<pid_t> children() {
  std::vector<pid_t> found;
  std::ifstream list("/proc/self/task/" + std::to_string(::getpid()) + "/children");
  for (pid_t id; list >> id;) found.push_back(id);
  return found;
}

class TextWorker : public ::testing::Test {
 protected:
  ~TextWorker() override { expect_no_children(); }

  fs::path model(const std::string& chat_template) const {
    const fs::path folder = folder_ / "model";
    fs::remove_all(folder);
    fs::copy(kGolden / "llama3", folder);
    std::ofstream(folder / "chat_template.jinja") << chat_template;
    return folder;
  }
  std::string write(const std::string& rows) const {
    std::ofstream(folder_ / "rows.jsonl") << rows;
    return (folder_ / "rows.jsonl").string();
  }
  /// The DataError of reading `rows`, without the folder.
  std::string error(Tokenizer& tokenizer, const std::string& rows, DataOptions options = {}) const {
    options.path = {write(rows)};
    NullLog log;
    try {
      read_dataset(options, Method::kSft, tokenizer, log);
    } catch (const DataError& error) {
      std::string what = error.what();
      for (size_t at; (at = what.find(folder_.string() + "/")) != std::string::npos;)
        what.erase(at, folder_.string().size() + 1);
      return what;
    }
    return "accepted";
  }

  const test::Scratch scratch_;
  const fs::path folder_ = scratch_.path();
};

const char kChatRow[] = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";

TEST_F(TextWorker, AnswersStandInTheOrderOfTheRequestsWhoeverGivesThem) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "qwen").string(), .workers = 3});
  std::vector<TextRequest> requests;
  for (int i = 0; i < 3000; ++i)
    requests.push_back({.text = std::string(static_cast<size_t>(i % 7 == 0 ? 2000 : 1), 'a') + std::to_string(i)});
  const auto encoded = tokenizer->encode(requests);
  EXPECT_GT(children().size(), 1U);
  std::vector<std::vector<int32_t>> ids;
  for (const EncodedText& one : encoded) ids.push_back(one.id);
  const auto decoded = tokenizer->decode(ids);
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(decoded[i].text, requests[i].text);
}

TEST_F(TextWorker, EndOfSequenceComesOnceAndFactsAreTheModels) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "llama3").string()});
  const TokenizerFacts& facts = tokenizer->facts();
  EXPECT_EQ(facts.bos_id, 640);
  EXPECT_EQ(facts.eos_id, 641);
  EXPECT_EQ(facts.pad_id, -1);
  EXPECT_EQ(facts.vocab_size, 644);
  EXPECT_TRUE(facts.has_template);
  EXPECT_TRUE(facts.marks_generation);
  const std::vector<TextRequest> requests{
      {.text = "b", .end = true}, {.text = "b<|eot_id|>", .end = true}, {.text = "b", .bare = true}};
  const auto encoded = tokenizer->encode(requests);
  EXPECT_EQ(encoded[0].id, encoded[1].id);
  EXPECT_EQ(encoded[0].id.front(), 640);
  EXPECT_EQ(encoded[0].id.back(), 641);
  EXPECT_EQ(encoded[0].id.size(), 3U);
  EXPECT_EQ(encoded[2].id.size(), 1U);
}

TEST_F(TextWorker, ATextThatBeginsWithTheBeginOfTextBeginsOnce) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "llama3").string()});
  DataOptions options;
  options.path = {write(R"({"text": "<|begin_of_text|>b"})")};
  NullLog log;
  const Dataset read = read_dataset(options, Method::kSft, *tokenizer, log);
  EXPECT_EQ(read.group.at(0).sample.at(0).token.size(), 3U);
}

TEST_F(TextWorker, ATemplateThatLoopsIsStoppedAndItsRowNamed) {
  const fs::path folder = model(
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% "
      "endfor %}");
  const auto tokenizer = make_worker_tokenizer({.directory = folder.string(), .render_seconds = 0.3});
  const auto start = Clock::now();
  EXPECT_EQ(error(*tokenizer, kChatRow),
            "rows.jsonl:1:14: the chat template ran for more than 0.3 seconds and was stopped");
  EXPECT_LT(seconds_since(start), 20);
}

TEST_F(TextWorker, WhatATemplateRaisesIsSaidWithItsRow) {
  const auto tokenizer =
      make_worker_tokenizer({.directory = model("{{ raise_exception('no ' ~ messages[0].role) }}").string()});
  EXPECT_EQ(error(*tokenizer, kChatRow), "rows.jsonl:1:14: no user");
}

TEST_F(TextWorker, ATemplateStaysInItsSandbox) {
  const TextRequest chat{.kind = TextRequest::Kind::kChat,
                         .text = R"({"messages": [{"role": "user", "content": "a"}]})"};
  for (const char* escape : {"{{ messages.append(1) }}", "{{ namespace(__class__=1) }}", "{{ dict.__class__ }}",
                             "{{ raise_exception.__globals__ }}", "{{ (1).__class__.__mro__ }}"}) {
    const auto tokenizer = make_worker_tokenizer({.directory = model(escape).string()});
    const RenderedText rendered = tokenizer->render(std::span(&chat, 1)).at(0);
    EXPECT_EQ(rendered.text, "") << escape;
    if (rendered.error.empty()) continue;  // an attribute that is not to be seen is nothing
    EXPECT_TRUE(rendered.error.find("unsafe") != std::string::npos ||
                rendered.error.find("underscore") != std::string::npos)
        << escape << ": " << rendered.error;
  }
}

TEST_F(TextWorker, AWorkerThatIsKilledIsAnErrorWithItsRows) {
  const auto tokenizer = make_worker_tokenizer(
      {.directory = model("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}").string(),
       .render_seconds = 60});
  (void)tokenizer->facts();
  const std::vector<pid_t> workers = children();
  ASSERT_EQ(workers.size(), 1U);
  std::jthread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(workers[0], SIGKILL);
  });
  const std::string said = error(*tokenizer, std::string(kChatRow) + "\n" + kChatRow + "\n" + kChatRow);
  EXPECT_EQ(
      said,
      "rows.jsonl:1:1: the text worker is gone: signal 9 (Killed) (it had the rows from rows.jsonl:1 to rows.jsonl:3)");
}

TEST_F(TextWorker, AWorkerThatIsStoppedIsGivenUp) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "qwen").string(), .answer_seconds = 5});
  (void)tokenizer->facts();
  ::kill(children().at(0), SIGSTOP);
  const std::string said = error(*tokenizer, R"({"text": "a"})");
  EXPECT_NE(said.find("said nothing for 5 seconds and was stopped: signal 9"), std::string::npos) << said;
}

TEST_F(TextWorker, AfterALossTheNextCallStartsAnew) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "qwen").string()});
  (void)tokenizer->facts();
  ::kill(children().at(0), SIGKILL);
  const std::vector<TextRequest> one{{.text = "a"}};
  EXPECT_THROW(tokenizer->encode(one), LostRequests);
  EXPECT_EQ(tokenizer->encode(one).at(0).id.size(), 1U);
}

TEST_F(TextWorker, ProgramsThatAreNoTextWorkerAreNamed) {
  const std::vector<std::string> frame{"E"};
  const auto said = [&](const std::string& script, double seconds = 20) {
    TextWorkers workers({"python3", "-c", script}, {.directory = "", .answer_seconds = seconds});
    try {
      workers.run(frame);
    } catch (const LostFrame& lost) {
      return lost.what;
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(said("import sys; sys.exit('no such luck')"),
            "the text worker is gone: exit code 1, its last words: no such luck");
  EXPECT_NE(said("import os; os.write(1, b'\\xff' * 64)").find("sent what is no answer"), std::string::npos);
  EXPECT_NE(said("import time; time.sleep(60)", 0.5).find("said nothing for 0.5 seconds"), std::string::npos);
  EXPECT_NE(said("import os; os.write(1, b'\\1\\0\\0\\0H'); os.read(0, 99); os._exit(3)").find("exit code 3"),
            std::string::npos);
  EXPECT_THROW(TextWorkers({"/no/such/program"}, {}).greeting(), DataError);
}

TEST_F(TextWorker, DirectoriesWithoutAUsableTokenizerSayWhatIsMissing) {
  const auto said = [](const fs::path& folder) {
    try {
      make_worker_tokenizer({.directory = folder.string()})->facts();
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const fs::path folder = model("x");
  std::ofstream(folder / "tokenizer.json") << "{}";
  EXPECT_NE(said(folder).find("no tokenizer from " + folder.string()), std::string::npos);
  fs::copy(kGolden / "qwen" / "tokenizer.json", folder / "tokenizer.json", fs::copy_options::overwrite_existing);
  std::ofstream(folder / "tokenizer_config.json") << "[]";
  EXPECT_NE(said(folder).find("tokenizer_config.json: not a JSON object"), std::string::npos);
  fs::remove(folder / "tokenizer.json"), fs::remove(folder / "tokenizer_config.json");
  EXPECT_NE(said(folder).find("neither tokenizer.json nor a SentencePiece model"), std::string::npos);
  EXPECT_EQ(said(kGolden / "sentencepiece"), "accepted");
}

TEST_F(TextWorker, ATokenizerOfALargerModelIsRefused) {
  const auto tokenizer = make_tokenizer("", {.directory = (kGolden / "qwen").string(), .vocab_size = 640});
  const std::string said = error(*tokenizer, R"({"text": "a"})");
  EXPECT_NE(said.find("rows.jsonl:1:1: the tokenizer of "), std::string::npos) << said;
  EXPECT_NE(said.find("has 643 tokens, the model's vocabulary 640"), std::string::npos) << said;
}

TEST_F(TextWorker, AConversationWithoutATemplateSaysWhereToPutOne) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "spm_bpe").string()});
  EXPECT_EQ(
      error(*tokenizer, kChatRow),
      "rows.jsonl:1:14: the tokenizer has no chat template: put a chat_template.jinja beside it, or give text rows");
}

TEST_F(TextWorker, TurnsAreFoundByRenderingWhereTheTemplateDoesNotMarkThem) {
  const auto tokenizer = make_worker_tokenizer({.directory = (kGolden / "qwen").string()});
  DataOptions options;
  options.assistant_only_loss = true;
  options.path = {write(R"({"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "ab"}, )"
                        R"({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})")};
  NullLog log;
  const Dataset read = read_dataset(options, Method::kSft, *tokenizer, log);
  std::vector<std::vector<int32_t>> learned(1);
  for (const int32_t id : read.group.at(0).sample.at(0).target)
    if (id != kIgnore) learned[0].push_back(id);
  EXPECT_EQ(tokenizer->decode(learned).at(0).text, "ab<|im_end|>d<|im_end|>");
}

/// What is learned of `sample`: "text*weight " a run.
std::string learned_runs(const Sample& sample, Tokenizer& tokenizer) {
  std::string all;
  for (size_t t = 0; t < sample.token.size();) {
    const auto weight = [&](size_t at) { return sample.weight.empty() ? 1.0 : sample.weight[at]; };
    if (sample.target[t] == kIgnore) {
      ++t;
      continue;
    }
    std::vector<std::vector<int32_t>> run(1);
    const double of_run = weight(t);
    for (; t < sample.token.size() && sample.target[t] != kIgnore && weight(t) == of_run; ++t)
      run[0].push_back(sample.target[t]);
    all += text(tokenizer.decode(run).at(0).text, "*", of_run, " ");
  }
  return all;
}

TEST_F(TextWorker, TurnsAreLearnedByTheirWeights) {
  const std::string row =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, )"
      R"({"role": "user", "content": "r", "weight": 0}, {"role": "assistant", "content": "b", "weight": 0.5}, )"
      R"({"role": "user", "content": "s"}, {"role": "assistant", "content": "c"}], "weight": 4})";
  const std::string marked =
      "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }};{% "
      "endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
  for (const auto& [folder, end] : {std::pair(kGolden / "qwen", "<|im_end|>"), std::pair(model(marked), ";")}) {
    const auto tokenizer = make_worker_tokenizer({.directory = folder.string()});
    DataOptions options;
    options.path = {write(row)};
    NullLog log;
    const Dataset read = read_dataset(options, Method::kSft, *tokenizer, log);
    EXPECT_EQ(learned_runs(read.group.at(0).sample.at(0), *tokenizer), text("b", end, "*2 c", end, "*4 "));
    options.train_on_all = true;
    const Sample all = read_dataset(options, Method::kSft, *tokenizer, log).group.at(0).sample.at(0);
    EXPECT_EQ(std::count(all.target.begin(), all.target.end(), kIgnore),
              tokenizer->encode(std::vector<TextRequest>{{.text = text("a", end), .bare = true}}).at(0).id.size());
  }
}

TEST_F(TextWorker, TurnsThatATemplateRunsTogetherCannotBeWeighed) {
  const auto tokenizer =
      make_worker_tokenizer({.directory = model("{% for m in messages %}{{ m.content }}{% endfor %}").string()});
  const std::string said = error(*tokenizer, R"({"messages": [{"role": "assistant", "content": "a", "train": true}, )"
                                             R"({"role": "assistant", "content": "b", "train": false}]})");
  EXPECT_EQ(
      said,
      "rows.jsonl:1:14: messages have weights, and of the conversation's 2 assistant's turns the rendering shows 1: "
      "its template does not keep them apart, so leave the weights out or use another");
}

TEST_F(TextWorker, ATemplateThatRendersATurnDifferentlyLaterIsNamed) {
  const auto tokenizer = make_worker_tokenizer(
      {.directory =
           model(
               "{% for message in messages %}{{ message.content if loop.last or message.role == 'user' }}|{% endfor %}")
               .string()});
  DataOptions options;
  options.assistant_only_loss = true;
  const std::string said =
      error(*tokenizer,
            R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
            R"({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})",
            options);
  EXPECT_NE(said.find("renders the conversation's assistant turn 1 differently once more follows it"),
            std::string::npos)
      << said;
}

}  // namespace
}  // namespace fpdist::data
