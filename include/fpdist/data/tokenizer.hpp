#pragma once
// data: text to token ids. Readers of rows see this interface alone: what a row becomes is theirs, a tokenizer encodes,
// decodes and renders.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"

namespace fpdist::data {

/// What is to be encoded or rendered.
struct TextRequest {
  enum class Kind : uint8_t {
    kText,  ///< `text` is what it says, in UTF-8
    kChat   ///< `text` is a JSON object {"messages": [...], "tools": [...] or null, "kwargs": {...}} for the chat
            ///< template
  };
  Kind kind = Kind::kText;
  std::string text;
  bool end = false;                ///< kText: end of sequence behind the text, unless it ends in it
  bool bare = false;               ///< kText: without the tokens that the tokenizer adds by itself, such as BOS
  bool generation_prompt = false;  ///< kChat: end with what opens the assistant's turn
  bool mask = false;  ///< kChat: say which tokens the assistant wrote, by the template's generation markers
  /// kText, with `bare`: say which tokens are in one of these spans of characters (code points, begin and end).
  std::vector<std::pair<uint32_t, uint32_t>> span = {};
};

/// The answer to one request: `id`, or what is wrong with it.
struct EncodedText {
  std::vector<int32_t> id;
  std::vector<uint8_t> is_marked;  ///< empty, or [id]: in a span, or written by the assistant
  std::string error;               ///< empty: none
};
struct RenderedText {
  std::string text;
  std::string error;  ///< empty: none
};

struct TokenizerFacts {
  int32_t vocab_size = 0;                         ///< one more than the largest id, added tokens among them
  int32_t bos_id = -1, eos_id = -1, pad_id = -1;  ///< -1: the tokenizer names none
  bool has_template = false;                      ///< conversations can be rendered
  bool marks_generation = false;                  ///< and the template says what the assistant writes
};

/// Whoever encodes was lost on the way: requests [first, last) of the call have no answer.
class LostRequests : public DataError {
 public:
  LostRequests(const std::string& what, size_t first_request, size_t last_request)
      : DataError(what), first(first_request), last(last_request) {}
  size_t first, last;
};

/// Belongs to one thread. Answers stand in the order of the requests. A tokenizer that cannot be opened throws
/// DataError with the cure on the first call that needs it; LostRequests where a helper process died or hung.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual const TokenizerFacts& facts() = 0;
  virtual std::vector<EncodedText> encode(std::span<const TextRequest> requests) = 0;
  /// Conversations as the text that encode would encode.
  virtual std::vector<RenderedText> render(std::span<const TextRequest> chats) = 0;
  virtual std::vector<RenderedText> decode(std::span<const std::vector<int32_t>> ids) = 0;
  /// [vocab_size] what each token stands for between others, empty for ids that nobody has; of special tokens their
  /// names. Characters may be cut by tokens. Throws DataError for a vocabulary whose pieces are not understood.
  virtual std::vector<std::string> token_bytes() = 0;
  /// Why no text may be read with it; empty: it may. Whoever reads a row says so with the row's place.
  virtual std::string refusal() const { return {}; }
  /// Different for tokenizers that encode or render differently; empty where encoding is not worth a cache (bytes).
  virtual std::string identity() const { return {}; }
};

/// One token a byte (ids 0..255), end of sequence 256, vocabulary 257; no chat template.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

/// How a model's own tokenizer is run: text workers, Python processes with the library that models ship with. They are
/// started when text comes, as many as there is work for, and end with the tokenizer.
struct TextWorkerOptions {
  std::string directory;          ///< tokenizer.json or a SentencePiece model, and the small files beside it
  int workers = 0;                ///< at most; 0: as many as this process may use cores
  int32_t vocab_size = 0;         ///< of the model: a tokenizer with more ids is refused; 0: any
  double render_seconds = 10;     ///< a chat template that takes longer is an error of its row
  double answer_seconds = 300;    ///< a worker that is silent for longer is lost
  int64_t memory_mib = 16 << 10;  ///< address space of a worker
};
std::unique_ptr<Tokenizer> make_worker_tokenizer(TextWorkerOptions options);

/// What text rows are read with. `choice`: data.tokenizer: "bytes", a directory, or "": the one in `model.directory`, a
/// Hugging Face directory, or empty for a preset, which reads bytes. One that refuses every text where there is none.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& choice, TextWorkerOptions model);

}  // namespace fpdist::data
