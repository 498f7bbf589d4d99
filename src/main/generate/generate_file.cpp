#include "src/main/generate/generate_file.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/comm/mesh.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/prompts.hpp"
#include "fpdist/generate/generate.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/generate/generate_part.hpp"
#include "src/main/generate/judged_rows.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/samples/stop_tokens.hpp"
#include "src/trainer/weights/load_model.hpp"

namespace fpdist::main_program {
namespace {

using Json = nlohmann::json;

constexpr int64_t kWavesAtOnce = 16;  // prompts that share are looked for among so many

/// The model and what it lies on.
struct Loaded {
  std::unique_ptr<comm::Device> device;
  std::unique_ptr<comm::Mesh> mesh;
  std::unique_ptr<model::Transformer> model;
};

Loaded load(comm::World& world, const config::Config& config, LogSink& log) {
  config::Settled settled = config::settle(config, 1);
  Loaded loaded;
  loaded.device = comm::open_device(settled.config.model.device, world, settled.config.comm, log);
  loaded.mesh = std::make_unique<comm::Mesh>(world, MeshShape{.dp = 1}, loaded.device.get());
  if (!config.model.path.empty())
    trainer::fit_to_weights(settled.model, checkpoint::HfDirectory(config.model.path), Head::kLanguageModel, log);
  auto runs = trainer::load_model(settled.config, settled.model, *loaded.mesh, loaded.device->where());
  loaded.model = std::move(runs.front());
  return loaded;
}

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
                      number("%.2f", flex.all_seconds), " s, so ", number("%.2f", flex.kept_seconds),
                      " s; |delta log-prob| mean ", number("%.2e", flex.mean_difference()), ", max ",
                      number("%.2e", flex.greatest_difference));
}

}  // namespace

void generate_file(const GenerateRequest& request, LogSink& log) {
  std::error_code unknown;
  check<ConfigError>(!std::filesystem::exists(request.output, unknown), request.output,
                     " is there already: give --output another name, or remove it");
  config::Config config = request.config;
  config.method = Method::kSft;
  config.data.path = {request.prompts};
  const auto tokenizer = data::make_tokenizer(config.data.tokenizer, {.directory = config.model.path});
  const std::vector<data::PromptRow> prompts =
      data::read_prompts({.path = {request.prompts}, .key = "--prompts"}, *tokenizer);
  generate::SamplingOptions sampling = request.sampling;
  trainer::complete_stops(sampling, config.model.path, *tokenizer);
  comm::run_threads(1, [&](comm::World& world) {
    const Loaded loaded = load(world, config, log);
    files::AppendFile file(request.output, files::AppendFile::Open::kEmpty);
    generate::GenerationReport all;
    RowJudge judge(request);
    std::vector<std::vector<int32_t>> tokens;
    for (const data::PromptRow& prompt : prompts) tokens.push_back(prompt.token);
    const size_t at_once = index(kWavesAtOnce * std::max<int64_t>(1, sampling.max_num_seqs / sampling.num_generations));
    for (size_t begin = 0; begin < prompts.size(); begin += at_once) {
      const size_t end = std::min(prompts.size(), begin + at_once);
      generate::GenerationReport part;
      const auto completions =
          generate::generate_part({{loaded.model.get()}}, tokens, begin, end, sampling, begin, &part);
      for (size_t p = begin; p < end; ++p) {
        Json row = row_of(prompts[p], completions[p - begin], texts_of(completions[p - begin], *tokenizer));
        judge.judge(prompts[p], completions[p - begin], *tokenizer, row);
        file.line(row.dump(-1, ' ', false, Json::error_handler_t::replace));
      }
      all += part;
      sampling.flex_prefill.check_prompts -= part.flex.checked_prompts;
      log.info(text(end, " of ", prompts.size(), " prompts, ", all.completion_tokens, " tokens"));
    }
    file.close();
    if (const std::string judged = judge.summary(); !judged.empty()) log.info(judged);
    if (all.flex.all_blocks > 0) log.info(flex_summary(all.flex));
    if (all.all_keys > 0)
      log.info(text("eval.kv_budget: layers kept ", all.kept_keys, " of ", all.all_keys, " keys, ",
                    number("%.1f", 100 * static_cast<double>(all.kept_keys) / static_cast<double>(all.all_keys)),
                    " %"));
    log.info(summary(all, request.output));
  });
}

}  // namespace fpdist::main_program
