#pragma once
// data: what is said between a text worker and us. worker/text_worker.py has the words; this is our side of them.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/data/tokenizer.hpp"

namespace fpdist::data {

/// A request frame without its length: the verb and the requests.
std::string encode_frame(std::span<const TextRequest> requests);
std::string render_frame(std::span<const TextRequest> chats);
std::string decode_frame(std::span<const std::vector<int32_t>> ids);
/// Of the whole vocabulary; its answer is texts, one an id.
std::string pieces_frame();

/// Answers to a frame of `count` requests. Throw DataError for what is no answer to it: not from our worker, or cut.
std::vector<EncodedText> read_encoded(std::string_view answer, size_t count);
std::vector<RenderedText> read_texts(std::string_view answer, char verb, size_t count);

/// The first frame of a worker. Throws DataError with the worker's words where it has no tokenizer.
TokenizerFacts read_facts(std::string_view frame, const std::string& directory);

/// Bytes of a frame behind its length; what is larger is not from our worker.
constexpr size_t kMaxFrame = size_t{1} << 30;

}  // namespace fpdist::data
