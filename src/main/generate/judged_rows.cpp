#include "src/main/generate/judged_rows.hpp"

#include "fpdist/core/error.hpp"
#include "fpdist/rewards/accuracy.hpp"
#include "fpdist/rewards/texts.hpp"
#include "src/core/words.hpp"

namespace fpdist::main_program {

RowJudge::RowJudge(const GenerateRequest& request)
    : rewards_(request.config.reward, request.sampling.max_completion_length),
      pass_at_(request.pass_at),
      of_prompt_(request.sampling.num_generations),
      stop_(request.sampling.stop) {}

void RowJudge::judge(const data::PromptRow& prompt, const std::vector<generate::Completion>& completions,
                     data::Tokenizer& tokenizer, nlohmann::json& row) {
  if (rewards_.names().empty()) return;
  std::vector<rewards::JudgedText> texts;
  const auto answer = rewards::answer_of(prompt, rewards_.answer_column());
  for (const generate::Completion& one : completions)
    texts.push_back({.row = &prompt,
                     .text = {},
                     .token = one.token,
                     .finish_reason = name_of(one.finish_reason),
                     .answer = answer});
  rewards::decode_texts(texts, tokenizer, stop_);
  const std::vector<rewards::Values> values = rewards_.judge(texts);
  rewards_.end_round();
  const rewards::Values total = rewards_.total(values);
  for (size_t i = 0; i < total.size(); ++i) {
    if (!total[i]) continue;
    row["completions"][i]["reward"] = *total[i];
    sum_ += *total[i], ++judged_;
  }
  for (const bool is_right : rewards::right_ones(values, rewards_.names(), total)) right_.push_back(is_right);
}

std::string RowJudge::summary() const {
  if (rewards_.names().empty()) return "";
  std::string words = text("reward ", number("%.4g", judged_ > 0 ? sum_ / judged_ : 0));
  const auto shares = rewards::shares_of(right_, of_prompt_, pass_at_);
  for (const auto& [name, share] : shares)
    if (const auto error = shares.find(name + "_stderr"); error != shares.end())
      words += text(", ", name, number(" %.4f", share), number(" +- %.4f", error->second));
  return words;
}

}  // namespace fpdist::main_program
