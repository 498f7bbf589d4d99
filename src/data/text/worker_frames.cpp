#include "src/data/text/worker_frames.hpp"

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"

namespace fpdist::data {
namespace {

constexpr uint8_t kText = 0, kChat = 1, kSpans = 2;
constexpr uint8_t kEnd = 1, kGenerationPrompt = 2, kMask = 4, kBare = 8;

static_assert(std::endian::native == std::endian::little, "frames are little-endian, as this machine is taken to be");

template <typename Number>
void put(Number number, std::string& frame) {
  frame.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void put_bytes(std::string_view bytes, std::string& frame) {
  put(static_cast<uint32_t>(bytes.size()), frame);
  frame.append(bytes);
}

std::string frame_of(char verb, size_t count) {
  std::string frame(1, verb);
  put(static_cast<uint32_t>(count), frame);
  return frame;
}

void put_request(const TextRequest& request, std::string& frame) {
  const bool is_chat = request.kind == TextRequest::Kind::kChat;
  put(is_chat ? kChat : request.span.empty() ? kText : kSpans, frame);
  put(static_cast<uint8_t>((request.end ? kEnd : 0) | (request.generation_prompt ? kGenerationPrompt : 0) |
                           (request.mask ? kMask : 0) | (request.bare ? kBare : 0)),
      frame);
  put_bytes(request.text, frame);
  if (is_chat || request.span.empty()) return;
  put(static_cast<uint32_t>(request.span.size()), frame);
  for (const auto& [begin, end] : request.span) put(begin, frame), put(end, frame);
}

std::string request_frame(char verb, std::span<const TextRequest> requests) {
  std::string frame = frame_of(verb, requests.size());
  for (const TextRequest& request : requests) put_request(request, frame);
  return frame;
}

/// An answer, read from its start.
class AnswerReader {
 public:
  AnswerReader(std::string_view answer, char verb) : rest_(answer) {
    if (answer.empty() || answer[0] != verb) fail("another verb");
    rest_.remove_prefix(1);
  }
  std::string_view bytes(size_t count) {
    if (count > rest_.size()) fail("it is cut");
    const std::string_view read = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return read;
  }
  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view sized() { return bytes(number<uint32_t>()); }
  void finish() const {
    if (!rest_.empty()) fail("more than was asked for");
  }
  [[noreturn]] static void fail(const char* why) {
    throw DataError(text("a text worker's answer is not understood (", why, "): is another text_worker.py installed?"));
  }

 private:
  std::string_view rest_;
};

int32_t id_in(const nlohmann::json& facts, const char* name, int32_t otherwise) {
  const auto found = facts.find(name);
  if (found == facts.end()) return otherwise;
  if (!found->is_number_integer() || found->get<int64_t>() < -1 ||
      found->get<int64_t>() > std::numeric_limits<int32_t>::max())
    AnswerReader::fail("a fact that is no id");
  return found->get<int32_t>();
}

bool says_yes(const nlohmann::json& facts, const char* name) {
  const auto found = facts.find(name);
  if (found != facts.end() && !found->is_boolean()) AnswerReader::fail("a fact that is neither true nor false");
  return found != facts.end() && found->get<bool>();
}

}  // namespace

std::string encode_frame(std::span<const TextRequest> requests) { return request_frame('E', requests); }
std::string render_frame(std::span<const TextRequest> chats) { return request_frame('R', chats); }

std::string decode_frame(std::span<const std::vector<int32_t>> ids) {
  std::string frame = frame_of('D', ids.size());
  for (const std::vector<int32_t>& one : ids) {
    put(static_cast<uint32_t>(one.size()), frame);
    frame.append(reinterpret_cast<const char*>(one.data()), one.size() * sizeof one[0]);
  }
  return frame;
}

std::string pieces_frame() { return frame_of('P', 0); }

std::vector<EncodedText> read_encoded(std::string_view answer, size_t count) {
  AnswerReader reader(answer, 'E');
  std::vector<EncodedText> all(count);
  for (EncodedText& one : all) {
    if (reader.number<uint8_t>() != 0) {
      one.error = reader.sized();
      continue;
    }
    const size_t length = reader.number<uint32_t>();
    const std::string_view ids = reader.bytes(length * sizeof(int32_t));
    one.id.resize(length);
    if (length > 0) std::memcpy(one.id.data(), ids.data(), ids.size());
    if (reader.number<uint8_t>() == 0) continue;
    const std::string_view marks = reader.bytes(length);
    one.is_marked.assign(marks.begin(), marks.end());
  }
  reader.finish();
  return all;
}

std::vector<RenderedText> read_texts(std::string_view answer, char verb, size_t count) {
  AnswerReader reader(answer, verb);
  std::vector<RenderedText> all(count);
  for (RenderedText& one : all) {
    const bool is_error = reader.number<uint8_t>() != 0;
    (is_error ? one.error : one.text) = reader.sized();
  }
  reader.finish();
  return all;
}

TokenizerFacts read_facts(std::string_view frame, const std::string& directory) {
  if (frame.starts_with('!')) throw DataError(text("no tokenizer from ", directory, ": ", frame.substr(1)));
  if (!frame.starts_with('H')) AnswerReader::fail("no greeting");
  const nlohmann::json facts = nlohmann::json::parse(frame.substr(1), nullptr, /*allow_exceptions=*/false);
  if (!facts.is_object()) AnswerReader::fail("no facts");
  TokenizerFacts read;
  read.vocab_size = id_in(facts, "vocab_size", 0);
  read.bos_id = id_in(facts, "bos_id", -1), read.eos_id = id_in(facts, "eos_id", -1);
  read.pad_id = id_in(facts, "pad_id", -1);
  read.has_template = says_yes(facts, "has_template");
  read.marks_generation = says_yes(facts, "marks_generation");
  return read;
}

}  // namespace fpdist::data
