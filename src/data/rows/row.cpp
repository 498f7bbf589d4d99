// Cells of a row. Columns that nobody wants are walked through as well: nothing is JSON until it was visited.

#include "src/data/rows/row.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/data/sample.hpp"
#include "src/data/rows/data_files.hpp"
#include "src/data/rows/json_line.hpp"

namespace fpdist::data {
namespace {

/// What samplers call the end of a completion, and which of these ends are cuts.
constexpr std::array<std::pair<std::string_view, bool>, 11> kFinishReasons{{{"stop", false},
                                                                            {"length", true},
                                                                            {"abort", true},
                                                                            {"eos", false},
                                                                            {"eos_token", false},
                                                                            {"stop_sequence", false},
                                                                            {"end_turn", false},
                                                                            {"max_tokens", true},
                                                                            {"content_filter", true},
                                                                            {"tool_calls", false},
                                                                            {"function_call", false}}};
}  // namespace

void fail_at(const LinePlace& place, size_t offset, std::string_view reason) {
  const std::string row = row_name(place.file, place.line);
  throw DataError(is_table(place.file) ? text(row, ": ", reason)
                                       : text(row, ":", place.first_byte + offset, ": ", reason));
}

/// One line on its way into cells.
struct RowParser::Impl : JsonLine {
  explicit Impl(const ColumnNames& column_names) : names(column_names) {}

  const ColumnNames& names;
  bool has_verdicts = false;                                        ///< of the line so far, see Row
  std::vector<std::string> names_read, unread;                      ///< of the line so far, see Row
  std::map<Column, std::vector<std::optional<std::string>>> piece;  ///< of columns that several of the file's make

  int32_t token_id(json::value value, Column column);
  std::vector<int32_t> ids(json::value value, Column column) {
    return list<int32_t>(value, text("a list of token ids in '", names.in_file(column), "'"),
                         [&](json::value v) { return token_id(v, column); });
  }
  bool is_cut(json::value value, Column column);
  /// One or a list of them.
  std::vector<int32_t> cuts(json::value value, Column column);
  std::vector<int32_t> mask(json::value value, Column column);
  int32_t prefix_length(json::value value, Column column);
  /// One or a list of them.
  std::variant<double, std::vector<double>> weight(json::value value, Column column);
  /// Whether a value says yes (1) or no (0): -1 where it says neither.
  double verdict(json::value value);
  void read_piece(FileColumn column, json::value value, Row& row);
  void join_pieces(Row& row);
  TokenCompletion token_completion(json::value value);
  void completions(json::value value, Cell& cell);
  void extras(Column column, json::value value, Cell& cell);
  void numbers_cell(Column column, json::value value, Cell& cell);
  void text_cell(Column column, json::value value, Cell& cell);
  void read_cell(Column column, json::value value, Cell& cell);
  /// Calls `read(column, value)` for each wanted field once, walks through the others and notes them as `where` + name.
  template <typename Read>
  void each_field(json::object object, const std::vector<Column>& wanted, std::string_view where, Read read);
};

int32_t RowParser::Impl::token_id(json::value value, Column column) {
  if (column == Column::kLabels && take(value.type(), "a label") == json::json_type::boolean) {
    has_verdicts = true;
    return take(value.get_bool(), "true or false") ? 1 : 0;
  }
  const int32_t id = integer(value, "an integer token id");
  if (id >= 0 || (column == Column::kLabels && id == kIgnore)) return id;
  fail(text(names.in_file(column), " holds ", id, ": token ids are 0 or more",
            column == Column::kLabels ? text(", ", kIgnore, " where nothing is supervised") : ""));
}

template <typename Read>
void RowParser::Impl::each_field(json::object object, const std::vector<Column>& wanted, std::string_view where,
                                 Read read) {
  std::array<uint64_t, kColumns> done{};  // a bit a piece
  for (auto result : object) {
    json::field field = take(std::move(result), "a field");
    const std::string key(take(field.unescaped_key(), "a key"));
    const std::optional<FileColumn> column = names.find(key);
    if (where.empty()) names_read.push_back(key);
    json::value value = field.value();
    start_value(value);
    if (!column || std::find(wanted.begin(), wanted.end(), column->column) == wanted.end()) {
      skip(value, 1);
      unread.push_back(text(where, key));
      continue;
    }
    uint64_t& seen = done[static_cast<size_t>(column->column)];
    const uint64_t bit = uint64_t{1} << (column->piece % 64);
    if ((seen & bit) != 0) fail(text("column '", key, "' appears twice"));
    seen |= bit;
    read(*column, value);
  }
}

bool RowParser::Impl::is_cut(json::value value, Column column) {
  start_value(value);
  if (take(value.type(), "a value") == json::json_type::null && take(value.is_null(), "null")) return false;
  if (column == Column::kTruncated)
    return take(value.get_bool(), text("true or false in '", names.in_file(column), "'"));
  const std::string reason = string(value, text("a text in '", names.in_file(column), "'"));
  std::string known;
  for (const auto& [name, cut] : kFinishReasons) {
    if (name == reason) return cut;
    known += text(known.empty() ? "" : ", ", name);
  }
  fail(text(names.in_file(column), " is '", reason, "': use one of ", known));
}

std::vector<int32_t> RowParser::Impl::cuts(json::value value, Column column) {
  if (take(value.type(), "a value") != json::json_type::array) return {is_cut(value, column)};
  return list<int32_t>(value, "a list", [&](json::value one) { return int32_t{is_cut(one, column)}; });
}

std::vector<int32_t> RowParser::Impl::mask(json::value value, Column column) {
  return list<int32_t>(value, "a list of 0 and 1", [&](json::value one) {
    const int32_t bit = integer(one, "0 or 1");
    if (bit != 0 && bit != 1) fail(text(names.in_file(column), " holds ", bit, ": use 0 or 1"));
    return bit;
  });
}

int32_t RowParser::Impl::prefix_length(json::value value, Column column) {
  const int32_t read = integer(value, "a number of tokens");
  if (read < 0) fail(text(names.in_file(column), " is ", read, ": it is 0 or more"));
  return read;
}

std::variant<double, std::vector<double>> RowParser::Impl::weight(json::value value, Column column) {
  const auto one = [&](json::value given) {
    const double read = number(given, "a weight");
    if (read < 0) fail(text(names.in_file(column), " holds ", read, ": weights are 0 or more"));
    return read;
  };
  start_value(value);
  if (take(value.type(), "a value") != json::json_type::array) return one(value);
  return list<double>(value, "a list of weights", one);
}

double RowParser::Impl::verdict(json::value value) {
  const json::json_type type = take(value.type(), "a value");
  const std::string_view token = value.raw_json_token();
  const bool is_verdict =
      type == json::json_type::boolean ||
      (type == json::json_type::number && (token[0] == '0' || token[0] == '1') &&
       (token.size() < 2 || std::string_view(".eE0123456789").find(token[1]) == std::string_view::npos));
  const bool is_yes = is_verdict && (token[0] == '1' || token[0] == 't');
  skip(value, 1);
  return is_yes ? 1 : is_verdict ? 0 : -1;
}

/// A piece of a text: null is none.
void RowParser::Impl::read_piece(FileColumn column, json::value value, Row& row) {
  start_value(value);
  const size_t at = value_offset;
  const std::string& name = names.pieces(column.column)[column.piece];
  std::string read;
  if (take(value.type(), "a value") != json::json_type::null)
    read = string(value, text("a string in '", name, "'"));
  else
    take(value.is_null(), "null");
  std::vector<std::optional<std::string>>& pieces = piece[column.column];
  pieces.resize(names.pieces(column.column).size());
  pieces[column.piece] = std::move(read);
  if (column.piece == 0) row.cell[static_cast<size_t>(column.column)] = Cell{.offset = at, .value = ""};
}

/// The pieces of a text that are not empty, a line each. Without its first piece a row does not have the column.
void RowParser::Impl::join_pieces(Row& row) {
  for (const auto& [column, pieces] : piece) {
    std::optional<Cell>& cell = row.cell[static_cast<size_t>(column)];
    if (!cell) continue;
    std::string whole;
    for (const std::optional<std::string>& one : pieces)
      if (one && !one->empty()) whole += (whole.empty() ? "" : "\n") + *one;
    cell->value = std::move(whole);
  }
}

TokenCompletion RowParser::Impl::token_completion(json::value value) {
  static const std::vector<Column> kWanted{
      Column::kIds,  Column::kReward,    Column::kAdvantage,    Column::kOldLogps, Column::kRefLogps,
      Column::kMask, Column::kTruncated, Column::kFinishReason, Column::kWeight,   Column::kPrefixLength};
  start_value(value);
  TokenCompletion one;
  one.offset = value_offset;
  bool has_ids = false;
  each_field(take(value.get_object(), "a completion {ids, reward | advantage, ...}"), kWanted, "completions.",
             [&](FileColumn field, json::value v) {
               const Column column = field.column;
               if (column == Column::kIds) one.ids = ids(v, column), has_ids = true;
               if (column == Column::kReward) one.reward = number(v, "a reward");
               if (column == Column::kAdvantage) one.advantage = number(v, "an advantage");
               if (column == Column::kOldLogps) one.old_logps = numbers(v, "a log-probability");
               if (column == Column::kRefLogps) one.ref_logps = numbers(v, "a log-probability");
               if (column == Column::kTruncated || column == Column::kFinishReason) {
                 if (one.truncated) fail("the completion says twice how it ended: keep one of the two fields");
                 one.truncated = is_cut(v, column);
               }
               if (column == Column::kMask) one.mask = mask(v, column);
               if (column == Column::kPrefixLength) one.prefix_length = prefix_length(v, column);
               if (column == Column::kWeight) one.weight = weight(v, column);
             });
  if (!has_ids) fail_at(place, one.offset, text("a completion has no '", names.in_file(Column::kIds), "'"));
  return one;
}

/// Objects, strings or conversations: the first element decides, the others must be alike.
void RowParser::Impl::completions(json::value value, Cell& cell) {
  std::vector<TokenCompletion> tokens;
  std::vector<std::string> texts;
  std::vector<ChatMessages> chats;
  json::array array = take(value.get_array(), "a list of completions");
  for (auto element : array) {
    json::value one = take(std::move(element), "a completion");
    start_value(one);
    const size_t at = value_offset;
    switch (take(one.type(), "a completion")) {
      case json::json_type::string:
        texts.push_back(string(one, "a completion"));
        break;
      case json::json_type::array:
        chats.push_back(messages(one, "a completion"));
        break;
      default:
        tokens.push_back(token_completion(one));
    }
    if (!tokens.empty() + !texts.empty() + !chats.empty() > 1)
      fail_at(place, at, "completions mixes texts, conversations and objects: write them all alike");
  }
  if (!tokens.empty())
    cell.value = std::move(tokens);
  else if (!texts.empty())
    cell.value = std::move(texts);
  else if (!chats.empty())
    cell.value = std::move(chats);
  else
    fail_at(place, cell.offset, "completions is empty: give at least one");
}

/// What the chat template gets besides messages: tools, as a list or, as Arrow files have it, a text that holds one;
/// and an object of variables. null: none.
void RowParser::Impl::extras(Column column, json::value value, Cell& cell) {
  const bool is_tools = column == Column::kTools;
  const std::string what = text(is_tools ? "a list" : "an object", " or null in '", names.in_file(column), "'");
  const json::json_type type = take(value.type(), what);
  RawJson read;
  if (type == json::json_type::null)
    take(value.is_null(), what);
  else if (type == json::json_type::string && is_tools)
    read.json = string(value, what);
  else if (type == (is_tools ? json::json_type::array : json::json_type::object))
    read.json = raw(value, what);
  else
    fail(text("wrong type: expected ", what));
  if (!read.json.empty()) {
    try {
      check_json(read.json);
    } catch (const MessageError& error) {
      fail_at(place, cell.offset + error.at, error.what());
    }
  }
  cell.value = std::move(read);
}

/// Columns of numbers.
void RowParser::Impl::numbers_cell(Column column, json::value value, Cell& cell) {
  switch (column) {
    case Column::kMargin:
      cell.value = number(value, "a margin");
      break;
    case Column::kReward:
      cell.value = number(value, "a reward");
      break;
    case Column::kAdvantage:
      cell.value = number(value, "an advantage");
      break;
    case Column::kRewards:
      cell.value = numbers(value, "a reward");
      break;
    case Column::kContext:
      cell.value = numbers(value, "a number of the context");
      break;
    case Column::kAdvantages:
      cell.value = numbers(value, "an advantage");
      break;
    case Column::kRefChosenLogps:
    case Column::kRefRejectedLogps:
      if (take(value.type(), "a value") != json::json_type::array) {
        cell.value = number(value, "a log-probability, of the whole answer or of each of its tokens");
        break;
      }
      [[fallthrough]];
    default:
      cell.value = numbers(value, "a log-probability");
  }
}

/// A text or a conversation. An answer of one message may stand without the list around it, as LLaMA-Factory has it.
void RowParser::Impl::text_cell(Column column, json::value value, Cell& cell) {
  const json::json_type type = take(value.type(), "a value");
  const bool is_answer = column == Column::kCompletion || column == Column::kChosen || column == Column::kRejected;
  if (is_answer && type == json::json_type::object)
    cell.value = ChatMessages{message(value)};
  else if (column == Column::kMessages || (column != Column::kText && type == json::json_type::array))
    cell.value = messages(value, "a list of messages");
  else
    cell.value = string(value, text("a string in '", names.in_file(column), "'"));
}

void RowParser::Impl::read_cell(Column column, json::value value, Cell& cell) {
  start_value(value);
  cell.offset = value_offset;
  switch (column) {
    case Column::kInputIds:
    case Column::kLabels:
    case Column::kPromptIds:
    case Column::kChosenIds:
    case Column::kRejectedIds:
    case Column::kRejectedPromptIds:
    case Column::kCompletionIds:
      cell.value = ids(value, column);
      break;
    case Column::kTruncated:
    case Column::kFinishReason:
      cell.value = cuts(value, column);
      break;
    case Column::kMask:
      cell.value = mask(value, column);
      break;
    case Column::kWeight:
      std::visit([&](auto&& given) { cell.value = std::move(given); }, weight(value, column));
      break;
    case Column::kPrefixLength:
      cell.value = static_cast<double>(prefix_length(value, column));
      break;
    case Column::kLabel:
      cell.value = verdict(value);
      break;
    case Column::kSource:
      if (take(value.type(), "a value") == json::json_type::null) {
        take(value.is_null(), "null");
        cell.value = std::string();
        break;
      }
      [[fallthrough]];
    case Column::kUid:
      cell.value = name(value, text("a text or an integer in '", names.in_file(column), "'"));
      break;
    case Column::kCompletions:
      completions(value, cell);
      break;
    case Column::kTools:
    case Column::kChatTemplateKwargs:
      extras(column, value, cell);
      break;
    case Column::kPrompt:
    case Column::kCompletion:
    case Column::kChosen:
    case Column::kRejected:
    case Column::kText:
    case Column::kMessages:
      text_cell(column, value, cell);
      break;
    default:
      numbers_cell(column, value, cell);
  }
}

RowParser::RowParser(const ColumnNames& names) : impl_(std::make_unique<Impl>(names)) {}
RowParser::~RowParser() = default;

Row RowParser::parse(std::string& line, const LinePlace& place, const std::vector<Column>& wanted) {
  Impl& impl = *impl_;
  if (const size_t first = line.find_first_not_of(" \t"); first != std::string::npos && line[first] == '[')
    fail_at(place, first,
            "wrong type: expected a row {\"column\": value, ...}, this is a list: write one object a line, as "
            "jq -c '.[]' does");
  const size_t length = line.size();
  line.append(simdjson::SIMDJSON_PADDING, '\0');
  impl.place = place;
  impl.line = std::string_view(line.data(), length);
  impl.value_offset = 0;
  Row row;
  row.place = place;
  if (const auto error =
          impl.parser.iterate(simdjson::padded_string_view(line.data(), length, line.size())).get(impl.document))
    impl.fail_json(error, "an object");
  json::object object;
  if (const auto error = impl.document.get_object().get(object))
    impl.fail_json(error, "a row {\"column\": value, ...}");
  impl.has_verdicts = false, impl.names_read.clear(), impl.unread.clear(), impl.piece.clear();
  impl.each_field(object, wanted, "", [&](FileColumn column, json::value value) {
    if (impl.names.pieces(column.column).size() > 1) return impl.read_piece(column, value, row);
    impl.read_cell(column.column, value, row.cell[static_cast<size_t>(column.column)].emplace());
  });
  impl.join_pieces(row);
  row.has_verdicts = impl.has_verdicts, row.names = std::move(impl.names_read), row.unread = std::move(impl.unread);
  const char* rest = nullptr;
  if (impl.document.current_location().get(rest) == simdjson::SUCCESS)  // an error here means: at the end
    fail_at(place, static_cast<size_t>(rest - line.data()),
            "bad JSON: more behind the row's object, one object a line");
  return row;
}

}  // namespace fpdist::data
