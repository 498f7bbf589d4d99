#include "src/trainer/weights/pad_token.hpp"

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::trainer {
namespace {

constexpr int kMaxDepth = 16;

/// A special token of tokenizer_config.json: a text, or an object that holds it.
std::string content_of(const nlohmann::json& token) {
  const nlohmann::json& content = token.is_object() && token.contains("content") ? token["content"] : token;
  return content.is_string() ? content.get<std::string>() : "";
}

std::optional<int64_t> last_without(const std::vector<bool>& taken) {
  for (size_t token = taken.size(); token-- > 0;)
    if (!taken[token]) return static_cast<int64_t>(token);
  return std::nullopt;
}

}  // namespace

void SeenTokens::see(std::span<const data::Group> groups) {
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) {
      for (const int32_t token : sample.token) holds_.at(index(token)) = true;
      if (!sample.token.empty()) ends_.at(index(sample.token.back())) = true;
    }
}

std::optional<int64_t> SeenTokens::spare() const {
  const std::optional<int64_t> unseen = last_without(holds_);
  return unseen ? unseen : last_without(ends_);
}

std::string SeenTokens::to_text() const {
  std::string letters(holds_.size(), '-');
  for (size_t token = 0; token < letters.size(); ++token)
    letters[token] = ends_[token] ? 'e' : holds_[token] ? 'h' : '-';
  return letters;
}

void SeenTokens::set_text(const std::string& letters, const std::string& where) {
  check<ModelFileError>(letters.size() == holds_.size(), where, ": seen_tokens tells of ", letters.size(),
                        " tokens, and the vocabulary has ", holds_.size());
  for (size_t token = 0; token < letters.size(); ++token)
    ends_[token] = letters[token] == 'e', holds_[token] = letters[token] != '-';
}

std::optional<int64_t> tokenizers_pad_token(const std::string& directory) {
  const std::string path = directory + "/tokenizer_config.json";
  std::error_code ignored;
  if (directory.empty() || !std::filesystem::exists(path, ignored)) return std::nullopt;
  try {
    const nlohmann::json config = files::parse_strict(files::read(path, files::kMaxJsonBytes), path, kMaxDepth);
    const std::string pad = config.is_object() ? content_of(config.value("pad_token", nlohmann::json())) : "";
    if (pad.empty()) return std::nullopt;
    const nlohmann::json added = config.value("added_tokens_decoder", nlohmann::json::object());
    for (const auto& [id, token] : added.items()) {
      int64_t number = -1;
      const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
      if (error == std::errc() && end == id.data() + id.size() && content_of(token) == pad) return number;
    }
  } catch (const ModelFileError&) {  // the tokenizer's files are copied as they are, whatever is in them
  }
  return std::nullopt;
}

std::optional<int64_t> pad_for_scores(const arch::Model& model, const SeenTokens& seen, const std::string& directory,
                                      LogSink& log) {
  const std::optional<int64_t> own = arch::pad_token_id(model), tokenizers = tokenizers_pad_token(directory);
  const auto is_good = [&](const std::optional<int64_t>& token) {
    return token && *token >= 0 && *token < model.vocab_size && !seen.ends_in(*token);
  };
  if (is_good(own)) return own;
  const std::optional<int64_t> other = is_good(tokenizers) ? tokenizers : seen.spare();
  const std::string why = own ? text("config.json's pad_token_id ", *own,
                                     " is a token that samples end in, and "
                                     "Transformers would read their scores ahead of it")
                              : "config.json has no pad_token_id, and Transformers scores no batches without one";
  if (!other) {
    log.warning(text(why, "; samples end in every token of the vocabulary, so score them one at a time"));
    return own;
  }
  log.warning(text(why, ": the exported reward model has pad_token_id ", *other, "; pad batches with it",
                   is_good(tokenizers)
                       ? ", as the tokenizer does"
                       : text(": tokenizer.pad_token = tokenizer.convert_ids_to_tokens(", *other, ")")));
  return other;
}

}  // namespace fpdist::trainer
