#include "src/data/rows/waiting_row.hpp"

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/rows/step_row.hpp"
#include "src/data/rows/text_row.hpp"

namespace fpdist::data {
namespace {

/// Requests of several rows, and where each row's begin.
struct Batch {
  std::vector<TextRequest> request;
  std::vector<size_t> begin{0};
  void add(std::vector<TextRequest> of_row) {
    std::move(of_row.begin(), of_row.end(), std::back_inserter(request));
    begin.push_back(request.size());
  }
  /// The row of this batch that a request is of.
  size_t row_of(size_t of) const { return index(std::upper_bound(begin.begin(), begin.end(), of) - begin.begin()) - 1; }
  template <typename Answer>
  std::span<const Answer> of_row(const std::vector<Answer>& answers, size_t row) const {
    return std::span(answers).subspan(begin[row], begin[row + 1] - begin[row]);
  }
};

std::string line_of(const LinePlace& place) { return row_name(place.file, place.line); }

/// The answers to a batch by `call`; a helper that was lost is an error that names the rows it was lost with.
template <typename Call>
auto ask(const Batch& batch, std::span<WaitingRow* const> rows, Call call) {
  try {
    return call(batch.request);
  } catch (const LostRequests& lost) {
    const LinePlace& first = rows[batch.row_of(lost.first)]->row->place;
    const LinePlace& last = rows[batch.row_of(std::max(lost.first + 1, lost.last) - 1)]->row->place;
    fail_at(first, 0, text(lost.what(), " (it had the rows from ", line_of(first), " to ", line_of(last), ")"));
  }
}

const TokenizerFacts& facts_of(Tokenizer& tokenizer, const WaitingRow& first) {
  try {
    return tokenizer.facts();
  } catch (const DataError& error) {
    fail_at(first.row->place, 0, error.what());
  }
}

/// What `make` returns; where it throws DataError nothing, and the row has the error.
template <typename Make>
auto or_error(WaitingRow& row, Make make) -> decltype(make()) {
  try {
    return make();
  } catch (const DataError& error) {
    row.made.error = error.what();
    if constexpr (std::is_same_v<decltype(make()), MadeGroup>) return row.made;
    return {};
  }
}

/// A text that itself begins with what the tokenizer puts in front of every text begins with it once.
void drop_second_begin(const Batch& batch, int32_t begin, std::vector<EncodedText>& encoded) {
  for (size_t i = 0; i < encoded.size(); ++i) {
    std::vector<int32_t>& id = encoded[i].id;
    const bool is_plain = batch.request[i].kind == TextRequest::Kind::kText && !batch.request[i].bare;
    if (is_plain && begin >= 0 && id.size() > 1 && id[0] == begin && id[1] == begin) id.erase(id.begin());
  }
}

}  // namespace

WaitingRow::WaitingRow(Row&& of, const RowFormat& format, const GroupMaker& maker)
    : row(std::make_unique<const Row>(std::move(of))) {
  if (!maker.is_text(format))
    made = maker.make_tokens(*row);
  else if (formats_of(maker.method).judges_steps)
    text = std::make_unique<StepRow>(*row, maker);
  else
    text = std::make_unique<TextRow>(*row, format, maker);
}

std::vector<MadeGroup> make_groups(std::span<WaitingRow> rows, GroupMaker& maker, Tokenizer& tokenizer) {
  std::vector<WaitingRow*> texts;
  for (WaitingRow& row : rows)
    if (row.text) texts.push_back(&row);
  if (!texts.empty()) {
    const TokenizerFacts& facts = facts_of(tokenizer, *texts.front());
    maker.marks_generation = facts.marks_generation, maker.bos_id = facts.bos_id;
    Batch shown, asked;
    for (const WaitingRow* row : texts) shown.add(row->text->renderings());
    std::vector<RenderedText> rendered;
    if (!shown.request.empty())
      rendered = ask(shown, texts, [&](std::span<const TextRequest> all) { return tokenizer.render(all); });
    for (size_t i = 0; i < texts.size(); ++i)
      asked.add(or_error(*texts[i], [&] { return texts[i]->text->requests(shown.of_row(rendered, i)); }));
    std::vector<EncodedText> encoded =
        ask(asked, texts, [&](std::span<const TextRequest> all) { return tokenizer.encode(all); });
    drop_second_begin(asked, facts.bos_id, encoded);
    for (size_t i = 0; i < texts.size(); ++i) {
      WaitingRow& row = *texts[i];
      if (row.made.error.empty()) row.made = or_error(row, [&] { return row.text->make(asked.of_row(encoded, i)); });
    }
  }
  std::vector<MadeGroup> made;
  for (WaitingRow& row : rows) made.push_back(std::move(row.made));
  return made;
}

}  // namespace fpdist::data
