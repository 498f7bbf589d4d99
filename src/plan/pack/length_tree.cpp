#include "src/plan/pack/length_tree.hpp"

#include <simdjson.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

namespace json = simdjson::dom;

/// No path is longer: rows are int32 in a layout, and sums of pairs must stay far from 2^63.
constexpr int64_t kMostRows = int64_t{1} << 24;

class LineParser {
 public:
  LineParser(LengthTree& tree, std::string place) : tree_(tree), place_(std::move(place)) {}

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
        require(key == "prefix", text("unknown key '", key, "': use prefix, completions, children"));
      }
    }
    require(tree_.sample.size() > before, "an object without completions below it");
  }

 private:
  void require(bool condition, std::string_view what) const { check<DataError>(condition, place_, what); }

  json::array array(json::element element, std::string_view name) const {
    json::array values;
    require(!element.get(values), text(name, " must be a list"));
    return values;
  }

  int64_t tokens(json::element element, std::string_view name) const {
    int64_t value = -1;
    require(!element.get(value) && value >= 0, text(name, " must be a number of tokens, 0 or more"));
    return value;
  }

  int32_t add_node(int32_t parent, int64_t rows) {
    LengthNode node{.parent = parent, .rows = rows};
    if (parent >= 0) {
      const LengthNode& above = tree_.node[index(parent)];
      node.above = above.above + above.rows;
    }
    require(rows <= kMostRows && node.above + rows <= kMostRows, text("a sample of more than ", kMostRows, " tokens"));
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
  std::string place_;
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
  std::istringstream lines(text_of_file);
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string place = text(name, ":", number, ": ");
    json::element root;
    const simdjson::error_code error = parser.parse(line).get(root);
    check<DataError>(!error, place, "not a JSON object (", simdjson::error_message(error), ")");
    LineParser(tree, place).object(root, -1);
    ++tree.lines;
  }
  check<DataError>(!tree.sample.empty(), name,
                   ": no samples: give one {\"prefix\": ..., \"completions\": [...]} a line");
  return tree;
}

LengthTree read_lengths(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  check<DataError>(file.is_open(), path, ": cannot open the file (", std::strerror(errno), "): check the path");
  std::ostringstream all;
  all << file.rdbuf();
  check<DataError>(!file.bad(), path, ": cannot read the file");
  return parse_lengths(all.str(), path);
}

}  // namespace fpdist::plan
