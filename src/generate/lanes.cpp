#include "src/generate/lanes.hpp"

#include <algorithm>

#include "src/core/index.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::generate {
namespace {

SamplingOptions share_of(const SamplingOptions& options, int64_t lanes) {
  SamplingOptions share = options;
  share.max_num_seqs = (options.max_num_seqs + lanes - 1) / lanes;
  share.max_num_batched_tokens = (options.max_num_batched_tokens + lanes - 1) / lanes;
  return share;
}

}  // namespace

struct Lanes::Lane {
  Lane(const Stages& stages, Session::Prompts prompts, std::span<Decoding> all, const SamplingOptions& share,
       int64_t most_rows, const std::vector<int64_t>& shared)
      : options(share), session(stages, prompts, all, options, most_rows, shared) {}

  const SamplingOptions options;
  Session session;
  bool is_begun = false, is_done = false;
};

Lanes::~Lanes() = default;

int64_t lanes_of(const Stages& stages, int64_t prompts, const SamplingOptions& options, const Room& room) {
  if (stages.pp == nullptr || stages.runs.size() > 1 || options.prefix_kv.is_on()) return 1;
  const int64_t suffice = std::min({prompts, options.max_num_seqs, room.rows / std::max<int64_t>(1, room.most_needed)});
  return std::clamp<int64_t>(stages.pp->size(), 1, std::max<int64_t>(1, suffice));
}

Lanes::Lanes(const Stages& stages, Session::Prompts prompts, std::span<Decoding> all, const SamplingOptions& options,
             const Room& room, const std::vector<int64_t>& shared) {
  const int64_t lanes = lanes_of(stages, std::ssize(prompts), options, room);
  const size_t each = prompts.empty() ? 0 : all.size() / prompts.size();
  size_t begin = 0;
  for (const int64_t count : parallel::split_evenly(std::ssize(prompts), static_cast<int>(lanes))) {
    const std::span<Decoding> own = all.subspan(begin * each, index(count) * each);
    lanes_.push_back(std::make_unique<Lane>(stages, prompts, own, share_of(options, lanes), room.rows / lanes, shared));
    begin += index(count);
  }
}

bool Lanes::step(GenerationReport& report) {
  bool goes_on = false;
  int64_t places = 0;
  for (const auto& lane : lanes_) {
    if (lane->is_done) continue;
    if (lane->is_begun) lane->session.end(report);
    lane->is_begun = lane->session.begin(report);
    lane->is_done = !lane->is_begun;
    goes_on = goes_on || lane->is_begun;
  }
  for (const auto& lane : lanes_) places += lane->session.places();
  report.most_rows = std::max(report.most_rows, places);
  return goes_on;
}

}  // namespace fpdist::generate
