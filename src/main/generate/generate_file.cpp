#include "src/main/generate/generate_file.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/prompts.hpp"
#include "fpdist/generate/generate.hpp"
#include "src/comm/agreement.hpp"
#include "src/config/stop_tokens.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/generate/kv_profile.hpp"
#include "src/main/generate/generators.hpp"
#include "src/main/generate/judged_rows.hpp"

namespace fpdist::main_program {
namespace {

using Json = nlohmann::json;

constexpr int64_t kWavesAtOnce = 16;  // prompts that share are looked for among so many

Json row_of(const data::PromptRow& prompt, const std::vector<generate::Completion>& completions,
            const std::vector<data::RenderedText>& texts) {
  Json row = Json::parse(prompt.columns);
  row["prompt_ids"] = prompt.token;
  row["completions"] = Json::array();
  for (size_t i = 0; i < completions.size(); ++i) {
    Json one{{"ids", completions[i].token},
             {"old_logps", completions[i].logp},
             {"finish_reason", name_of(completions[i].finish_reason)}};
    if (!texts.empty() && texts[i].error.empty()) one["text"] = texts[i].text;
    row["completions"].push_back(std::move(one));
  }
  return row;
}

std::vector<data::RenderedText> texts_of(const std::vector<generate::Completion>& completions,
                                         data::Tokenizer& tokenizer) {
  if (!tokenizer.refusal().empty()) return {};
  std::vector<std::vector<int32_t>> ids;
  for (const generate::Completion& one : completions) ids.push_back(one.token);
  return tokenizer.decode(ids);
}

std::string summary(const generate::GenerationReport& all, const std::string& output) {
  const auto speed = [](int64_t tokens, double seconds) {
    return text(" in ", number("%.2f", seconds), " s, ",
                number("%.0f", static_cast<double>(tokens) / std::max(seconds, 1e-9)), " tokens/s");
  };
  return text("prompts: ", all.prompt_tokens, " tokens, ", all.computed_tokens, " computed",
              speed(all.computed_tokens, all.prefill_seconds), "; completions: ", all.completion_tokens, " tokens",
              speed(all.completion_tokens, all.decode_seconds), "; written to ", output);
}

/// What flex_prefill has left out and what it changed.
std::string flex_summary(const generate::FlexReport& flex) {
  std::string words = text("flex_prefill: ", number("%.1f", 100 * flex.kept_share()), " % of ", flex.all_blocks,
                           " pairs of blocks kept");
  if (flex.checked_prompts == 0) return words;
  return words + text("; ", flex.checked_prompts, flex.checked_prompts == 1 ? " prompt" : " prompts", " of ",
                      flex.checked_tokens + flex.checked_prompts, " tokens with all keys ",
                      number("%.2f", flex.all_seconds), " s, so ", number("%.2f", flex.kept_seconds), " s, ",
                      number("%.2f", flex.search_seconds), " s of them to choose keys; |delta log-prob| mean ",
                      number("%.2e", flex.mean_difference()), ", max ", number("%.2e", flex.greatest_difference));
}

/// Rows of the output, as they come.
class CompletionRows {
 public:
  explicit CompletionRows(const GenerateRequest& request)
      : judge_(request), path_(request.output), profile_path_(request.write_kv_profile) {
    std::error_code unknown;
    check<ConfigError>(!std::filesystem::exists(path_, unknown), path_,
                       " is there already: give --output another name, or remove it");
    check<ConfigError>(profile_path_.empty() || !std::filesystem::exists(profile_path_, unknown), profile_path_,
                       " is there already: give --write_kv_profile another name, or remove it");
  }
  /// Once nothing is wrong with model and prompts. Both files are opened, so that what cannot be written is known ahead
  /// of the work.
  void begin() {
    if (!profile_path_.empty()) profile_.emplace(profile_path_);
    file_.emplace(path_, files::AppendFile::Open::kEmpty);
  }
  void add(const data::PromptRow& prompt, const std::vector<generate::Completion>& completions,
           data::Tokenizer& tokenizer) {
    Json row = row_of(prompt, completions, texts_of(completions, tokenizer));
    judge_.judge(prompt, completions, tokenizer, row);
    file_->line(row.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  void close(LogSink& log) {
    file_->close();
    if (const std::string judged = judge_.summary(); !judged.empty()) log.info(judged);
  }
  void write_profile(const arch::Model& model, const generate::PrefixKvOptions& options,
                     const generate::GenerationReport& report, LogSink& log) {
    if (!profile_) return;
    const std::string profile = generate::to_kv_profile(model, options, report.chosen_prompts, report.dropped);
    profile_->append(profile.data(), profile.size());
    profile_->commit();
    log.info(text("means of ", report.chosen_prompts, " prompts written to ", profile_path_));
  }

 private:
  RowJudge judge_;
  const std::string path_, profile_path_;
  std::optional<files::AppendFile> file_;
  std::optional<files::AtomicFile> profile_;
};

/// Throws ConfigError on all ranks where their files have different prompts, or shares of keys.
void check_same(std::span<const data::PromptRow> prompts, std::span<const double> dropped, comm::World& world) {
  Checksum all, shares;
  for (const data::PromptRow& prompt : prompts) all.add(std::span(prompt.token));
  shares.add(dropped);
  const std::vector<comm::Fact> facts{
      {"--prompts", text(prompts.size(), " prompts, checksum ", to_string(all.value()))},
      {"--eval.kv_profile", text("checksum ", to_string(shares.value()))}};
  const auto differences = comm::find_differences(facts, world.communicator());
  check<ConfigError>(differences.empty(), "the ranks read different files: ", comm::to_text(differences),
                     "; they must be the same on every host");
}

/// What was left out, where anything was.
void say_left_out(const generate::GenerationReport& all, LogSink& log) {
  if (all.flex.all_blocks > 0) log.info(flex_summary(all.flex));
  if (all.all_keys > 0)
    log.info(text("eval.kv_budget: layers kept ", all.kept_keys, " of ", all.all_keys, " keys, ",
                  number("%.1f", 100 * all.kept_key_share()), " %"));
}

}  // namespace

void generate_file(const GenerateRequest& request, comm::World& world, LogSink& log) {
  std::optional<CompletionRows> output;  // rank 0's
  if (world.rank() == 0) output.emplace(request);
  config::Config config = request.config;
  config.method = Method::kSft;
  config.data.path = {request.prompts};
  const auto tokenizer = data::make_tokenizer(config.data.tokenizer, {.directory = config.model.path});
  const std::vector<data::PromptRow> prompts =
      data::read_prompts({.path = {request.prompts}, .key = "--prompts"}, *tokenizer);
  const config::Settled settled = config::settle(config, world.size());
  generate::SamplingOptions sampling = request.sampling;
  config::complete_stops(sampling, config.model.path, *tokenizer);
  if (const std::string& profile = config.eval.kv_profile; !profile.empty())
    generate::read_kv_profile(profile, settled.model, sampling.prefix_kv);
  check_same(prompts, sampling.prefix_kv.dropped, world);
  Generators generators(world, settled, log);
  std::vector<std::vector<int32_t>> tokens;
  for (const data::PromptRow& prompt : prompts) tokens.push_back(prompt.token);
  generators.check_prompts(tokens, sampling);
  if (output) output->begin();
  generate::GenerationReport all;
  const size_t at_once = index(generators.replicas() * kWavesAtOnce *
                               std::max<int64_t>(1, sampling.max_num_seqs / sampling.num_generations));
  for (size_t begin = 0; begin < prompts.size(); begin += at_once) {
    const size_t end = std::min(prompts.size(), begin + at_once);
    generate::GenerationReport part;
    const auto completions = generators.complete(tokens, begin, end, sampling, part);
    for (size_t p = begin; p < end && output; ++p) output->add(prompts[p], completions[p - begin], *tokenizer);
    all += part;
    sampling.flex_prefill.check_prompts -= part.flex.checked_prompts;
    log.info(text(end, " of ", prompts.size(), " prompts, ", all.completion_tokens, " tokens"));
  }
  if (output) output->close(log);
  if (output) output->write_profile(settled.model, sampling.prefix_kv, all, log);
  say_left_out(all, log);
  log.info(summary(all, request.output));
}

}  // namespace fpdist::main_program
