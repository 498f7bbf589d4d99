// The model's own tokenizer: requests are dealt to text workers in frames of some ten milliseconds of work.

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/core/checksum.hpp"
#include "src/data/text/text_workers.hpp"
#include "src/data/text/worker_frames.hpp"
#include "src/data/text/worker_place.hpp"
#include "src/files/mapped_file.hpp"

namespace fpdist::data {
namespace {

constexpr size_t kFrameBytes = size_t{128} << 10, kFrameRequests = 512;

size_t bytes_of(const TextRequest& request) { return request.text.size(); }
size_t bytes_of(const std::vector<int32_t>& ids) { return ids.size() * sizeof(int32_t); }

int usable_cores() {
  cpu_set_t cores;
  return ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? std::max(1, CPU_COUNT(&cores)) : 1;
}

/// Of every file that a worker reads: its name and contents.
Digest digest_of_folder(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<fs::path> read;
  std::error_code error;
  for (const char* below : {"", "additional_chat_templates"})
    for (const auto& entry : fs::directory_iterator(fs::path(folder) / below, error)) {
      const std::string ending = entry.path().extension().string();
      const bool is_weights = entry.path().filename().string().ends_with(".safetensors.index.json");
      if ((ending == ".json" || ending == ".jinja" || ending == ".model") && !is_weights) read.push_back(entry.path());
    }
  std::sort(read.begin(), read.end());
  Checksum sum;
  for (const fs::path& path : read) {
    const std::string name = path.filename().string();
    const files::MappedFile file(path.string());
    sum.add(std::span<const char>(name)).add(std::span<const char>(file.bytes()));
  }
  return sum.value();
}

class WorkerTokenizer final : public Tokenizer {
 public:
  explicit WorkerTokenizer(TextWorkerOptions options) : options_(std::move(options)) {
    if (options_.workers == 0) options_.workers = usable_cores();
  }

  const TokenizerFacts& facts() override {
    if (facts_) return *facts_;
    const TokenizerFacts read = read_facts(workers().greeting(), options_.directory);
    check<DataError>(options_.vocab_size == 0 || read.vocab_size <= options_.vocab_size, "the tokenizer of ",
                     options_.directory, " has ", read.vocab_size, " tokens, the model's vocabulary ",
                     options_.vocab_size,
                     ": it is another model's, or tokens were added to it alone; use the tokenizer that the model was "
                     "made with");
    facts_ = read;
    return *facts_;
  }

  std::string identity() const override { return to_string(digest_of_folder(options_.directory)); }

  std::vector<EncodedText> encode(std::span<const TextRequest> requests) override {
    return ask<EncodedText>(requests, encode_frame, read_encoded);
  }
  std::vector<RenderedText> render(std::span<const TextRequest> chats) override {
    return ask<RenderedText>(chats, render_frame,
                             [](std::string_view answer, size_t count) { return read_texts(answer, 'R', count); });
  }
  std::vector<RenderedText> decode(std::span<const std::vector<int32_t>> ids) override {
    return ask<RenderedText>(ids, decode_frame,
                             [](std::string_view answer, size_t count) { return read_texts(answer, 'D', count); });
  }
  std::vector<std::string> token_bytes() override {
    const auto count = static_cast<size_t>(facts().vocab_size);
    std::vector<std::string> all;
    for (RenderedText& piece : read_texts(run({pieces_frame()}, {0, count}).front(), 'P', count)) {
      check<DataError>(piece.error.empty(), "the tokenizer of ", options_.directory, ": ", piece.error);
      all.push_back(std::move(piece.text));
    }
    return all;
  }

 private:
  TextWorkers& workers() {
    if (!workers_) workers_ = std::make_unique<TextWorkers>(worker_command(options_), options_);
    return *workers_;
  }

  template <typename Answer, typename Request, typename Write, typename Read>
  std::vector<Answer> ask(std::span<const Request> requests, Write write, Read read) {
    (void)facts();  // a tokenizer that is none says so itself
    std::vector<size_t> begin{0};
    std::vector<std::string> frames;
    for (size_t next = 0; next < requests.size(); begin.push_back(next)) {
      size_t bytes = 0;
      while (next < requests.size() && next - begin.back() < kFrameRequests && bytes < kFrameBytes)
        bytes += bytes_of(requests[next++]);
      frames.push_back(write(requests.subspan(begin.back(), next - begin.back())));
    }
    std::vector<Answer> all;
    all.reserve(requests.size());
    for (size_t frame = 0; const std::string& answer : run(frames, begin)) {
      for (Answer& one : read(answer, begin[frame + 1] - begin[frame])) all.push_back(std::move(one));
      ++frame;
    }
    return all;
  }

  std::vector<std::string> run(const std::vector<std::string>& frames, const std::vector<size_t>& begin) {
    try {
      return workers().run(frames);
    } catch (const LostFrame& lost) {
      workers_.reset();
      const bool has_frame = lost.frame < frames.size();
      throw LostRequests(lost.what, has_frame ? begin[lost.frame] : 0,
                         has_frame ? begin[lost.frame + 1] : begin.back());
    }
  }

  TextWorkerOptions options_;
  std::unique_ptr<TextWorkers> workers_;
  std::optional<TokenizerFacts> facts_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_worker_tokenizer(TextWorkerOptions options) {
  return std::make_unique<WorkerTokenizer>(std::move(options));
}

}  // namespace fpdist::data
