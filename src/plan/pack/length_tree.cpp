#include "src/plan/pack/length_tree.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

namespace json = simdjson::dom;

/// No path is longer: rows are int32 in a layout, and sums of pairs must stay far from 2^63.
constexpr int64_t kMostRows = int64_t{1} << 24;

/// One line's samples on their way into the tree.
class LineParser {
 public:
  LineParser(LengthTree& tree, const std::string& file, int64_t line) : tree_(tree), file_(file), line_(line) {}

  void object(json::element element, int32_t parent) {
    json::object fields;
    require(!element.get(fields), "expected an object with prefix and completions or children");
    const size_t before = tree_.sample.size();
    json::element prefix;
    require(!fields["prefix"].get(prefix), "an object without prefix: give the tokens that its samples share, or 0");
    const int32_t node = add_node(parent, tokens(prefix, "prefix"));
    for (const auto& [key, value] : fields) {
      if (key == "completions") {
        for (const json::element one : array(value, "completions")) completion(node, tokens(one, "completions"));
      } else if (key == "children") {
        for (const json::element one : array(value, "children")) object(one, node);
      } else {
        require(key == "prefix", "unknown key '", key, "': use prefix, completions, children");
      }
    }
    require(tree_.sample.size() > before, "an object without completions below it");
  }

  void group(int64_t prefix, std::span<const int64_t> completions) {
    const int32_t node = add_node(-1, prefix);
    for (const int64_t rows : completions) completion(node, rows);
  }

  template <typename... Words>
  void require(bool condition, const Words&... what) const {
    check<DataError>(condition, file_, ":", line_, ": ", what...);
  }

 private:
  json::array array(json::element element, std::string_view name) const {
    json::array values;
    require(!element.get(values), name, " must be a list");
    return values;
  }

  int64_t tokens(json::element element, std::string_view name) const {
    int64_t value = -1;
    require(!element.get(value) && value >= 0, name, " must be a number of tokens, 0 or more");
    return value;
  }

  int32_t add_node(int32_t parent, int64_t rows) {
    LengthNode node{.parent = parent, .rows = rows};
    if (parent >= 0) {
      const LengthNode& above = tree_.node[index(parent)];
      node.above = above.above + above.rows;
    }
    require(rows <= kMostRows && node.above + rows <= kMostRows, "a sample of more than ", kMostRows, " tokens");
    tree_.node.push_back(node);
    return static_cast<int32_t>(tree_.node.size() - 1);
  }

  /// The first token of a sample without any prefix is predicted by nobody.
  void completion(int32_t parent, int64_t rows) {
    const int32_t node = add_node(parent, rows);
    const bool follows = tree_.node.back().above > 0;
    tree_.sample.push_back({node, tree_.lines, follows ? rows : std::max<int64_t>(0, rows - 1)});
  }

  LengthTree& tree_;
  const std::string& file_;
  int64_t line_;
};

/// A line as nearly all are, {"prefix": n, "completions": [n, ...]}, read at the speed of memory; whatever else it may
/// be, right or wrong, is simdjson's.
class PlainLine {
 public:
  bool read(std::string_view line) {
    at_ = line;
    completions_.clear();
    if (!(next("{") && next("\"prefix\"") && next(":") && number(prefix_) && next(",") && next("\"completions\"") &&
          next(":") && next("[")))
      return false;
    do {
      if (!number(completions_.emplace_back())) return false;
    } while (next(","));
    return next("]") && next("}") && next("") && at_.empty();
  }
  int64_t prefix() const { return prefix_; }
  std::span<const int64_t> completions() const { return completions_; }

 private:
  bool next(std::string_view token) {
    while (!at_.empty() && (at_[0] == ' ' || at_[0] == '\t' || at_[0] == '\r')) at_.remove_prefix(1);
    if (!at_.starts_with(token)) return false;
    at_.remove_prefix(token.size());
    return true;
  }
  bool number(int64_t& value) {
    if (!next("")) return false;
    const auto [end, error] = std::from_chars(at_.data(), at_.data() + at_.size(), value);
    const bool is_plain = error == std::errc() && at_[0] != '-' && (at_[0] != '0' || end == at_.data() + 1);
    if (is_plain) at_.remove_prefix(index(end - at_.data()));
    return is_plain;
  }

  std::string_view at_;
  int64_t prefix_ = 0;
  std::vector<int64_t> completions_;
};

}  // namespace

Amount LengthTree::unique() const {
  Amount all;
  for (const LengthNode& one : node) all += one.work();
  for (const LengthSample& one : sample) all.edges += one.edges;
  return all;
}

int64_t LengthTree::tokens_logical() const {
  int64_t tokens = 0;
  for (const LengthSample& one : sample) {
    const LengthNode& last = node[index(one.node)];
    tokens += last.above + last.rows;
  }
  return tokens;
}

LengthTree parse_lengths(const std::string& text_of_file, const std::string& name) {
  LengthTree tree;
  simdjson::dom::parser parser;
  PlainLine plain;
  const std::string_view all = text_of_file;
  int64_t number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const std::string_view line = all.substr(begin, all.find('\n', begin) - begin);
    begin += line.size() + 1;
    ++number;
    LineParser into(tree, name, number);
    if (plain.read(line)) {
      into.group(plain.prefix(), plain.completions());
    } else {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      json::element root;
      const simdjson::error_code error = parser.parse(line.data(), line.size()).get(root);
      into.require(!error, "not a JSON object (", simdjson::error_message(error), ")");
      into.object(root, -1);
    }
    ++tree.lines;
  }
  check<DataError>(!tree.sample.empty(), name,
                   ": no samples: give one {\"prefix\": ..., \"completions\": [...]} a line");
  return tree;
}

LengthTree read_lengths(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  check<DataError>(file.is_open(), path, ": cannot open the file (", std::strerror(errno), "): check the path");
  std::string all;
  std::vector<char> block(size_t{1} << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    all.append(block.data(), index(file.gcount()));
  check<DataError>(!file.bad(), path, ": cannot read the file");
  return parse_lengths(all, path);
}

}  // namespace fpdist::plan
