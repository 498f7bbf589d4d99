#include "tests/emulation/ptx/text.hpp"

#include <cctype>
#include <map>

#include "tests/emulation/ptx/kernel.hpp"

namespace fpdist::ptx {
namespace {

bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

std::string trimmed(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool is_blank = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!is_blank)
      result += c;
    else if (!result.empty() && result.back() != ' ')
      result += ' ';
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string line = text.substr(begin, end - begin);
    line.resize(std::min(line.find("//"), line.size()));
    if (line = trimmed(line); !line.empty()) lines.push_back(line);
    begin = end + 1;
  }
  return lines;
}

/// Source files by number: .file 1 "kernels/a.cu"
std::map<int, std::string> files_of(const std::vector<std::string>& lines) {
  std::map<int, std::string> files;
  for (const std::string& line : lines) {
    const size_t quote = line.find('"');
    if (!starts(line, ".file") || quote == std::string::npos) continue;
    const std::string path = line.substr(quote + 1, line.find('"', quote + 1) - quote - 1);
    files[std::stoi(line.substr(5))] = path.substr(path.rfind('/') + 1);
  }
  return files;
}

/// Follows .loc: ".loc 3 131 0, function_name $L, inlined_at 2 34 3", where "2 34 3" was told before with a place of
/// its own.
class Places {
 public:
  explicit Places(const std::map<int, std::string>& files) : files_(files) {}

  std::string at(const std::string& loc) {
    const size_t inlined = loc.find("inlined_at ");
    const std::string place = numbers(loc.substr(5));
    if (inlined != std::string::npos) caller_[place] = numbers(loc.substr(inlined + 11));
    std::string text = name(place);
    std::string last = inlined == std::string::npos ? "" : caller_[place];
    for (int depth = 0; !last.empty() && depth < 16; ++depth) {
      text += (depth == 0 ? ", inlined at " : ", ") + name(last);
      const auto next = caller_.find(last);
      last = next == caller_.end() ? "" : next->second;
    }
    return text;
  }

 private:
  /// "2 34 3" of what begins so.
  static std::string numbers(const std::string& text) { return text.substr(0, text.find_first_not_of("0123456789 ")); }
  std::string name(const std::string& place) const {
    int file = 0, line = 0;
    std::sscanf(place.c_str(), "%d %d", &file, &line);
    const auto found = files_.find(file);
    return (found == files_.end() ? "?" : found->second) + ":" + std::to_string(line);
  }
  const std::map<int, std::string>& files_;
  std::map<std::string, std::string> caller_;
};

/// Reads one entry's lines; what is between semicolons and braces may go over several.
class Cutter {
 public:
  explicit Cutter(const std::map<int, std::string>& files) : places_(files) {}

  /// False once the entry is whole.
  bool add(const std::string& line) {
    if (starts(line, ".loc ")) return place_ = places_.at(line), true;
    for (const char c : line + "\n") {
      if (!add(c)) return false;
    }
    return true;
  }
  EntryText take() { return std::move(entry_); }

 private:
  bool add(char c) {
    if (depth_ == 0) {
      if (c == '{')
        read_head(), depth_ = 1, text_.clear();
      else
        text_ += c;
      return true;
    }
    const bool is_start = trimmed(text_).empty();
    if (c == '{' && is_start)
      push(Statement::kOpen), ++depth_;
    else if (c == '}' && is_start && operands_ == 0)
      push(Statement::kClose), --depth_;
    else if (c == ';')
      push(trimmed(text_)[0] == '.' ? Statement::kDirective : Statement::kInstruction);
    else if (c == ':' && is_label())
      push(Statement::kLabel);
    else
      text_ += c, operands_ += c == '{' ? 1 : c == '}' ? -1 : 0;
    return depth_ > 0;
  }

  bool is_label() const {
    const std::string text = trimmed(text_);
    return !text.empty() && text.find_first_of(" .,[%@") == std::string::npos;
  }
  void push(Statement::Kind kind) {
    entry_.body.push_back({kind, trimmed(text_), place_});
    text_.clear();
  }

  void read_head() {
    const std::string head = trimmed(text_);
    const size_t open = head.find('('), close = head.find(')');
    const size_t name_end = std::min(open, head.find(' '));
    entry_.name = head.substr(0, name_end);
    std::string rest = name_end == std::string::npos ? "" : head.substr(name_end);
    if (open != std::string::npos) {
      entry_.parameter = split(head.substr(open + 1, close - open - 1), ',');
      rest = head.substr(close + 1);
    }
    for (size_t at = rest.find('.'); at != std::string::npos;) {
      const size_t next = rest.find('.', at + 1);
      entry_.attribute.push_back(trimmed(rest.substr(at, next == std::string::npos ? next : next - at)));
      at = next;
    }
  }

  Places places_;
  EntryText entry_;
  std::string text_, place_;
  int depth_ = 0, operands_ = 0;
};

}  // namespace

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  for (const char c : text) {
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (c != separator || depth > 0) {
      part += c;
      continue;
    }
    parts.push_back(trimmed(part));
    part.clear();
  }
  if (part = trimmed(part); !part.empty()) parts.push_back(part);
  return parts;
}

ModuleText cut(const std::string& text) {
  const std::vector<std::string> lines = lines_of(text);
  const std::map<int, std::string> files = files_of(lines);
  ModuleText module;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    if (starts(line, ".section")) break;  // debug information
    if (starts(line, ".extern .shared")) module.dynamic_shared.push_back(line.substr(0, line.find(';')));
    const size_t entry = line.find(".entry ");
    if (entry == std::string::npos) {
      const bool is_known = starts(line, ".version") || starts(line, ".target") || starts(line, ".address_size") ||
                            starts(line, ".file") || starts(line, ".extern .shared") || starts(line, ".loc ");
      if (!is_known) throw Fault("PTX outside every kernel that the machine does not know: " + line);
      continue;
    }
    Cutter cutter(files);
    bool is_open = cutter.add(line.substr(entry + 7));
    while (is_open && ++i < lines.size()) is_open = cutter.add(lines[i]);
    if (is_open) throw Fault("PTX ends inside a kernel");
    module.entry.push_back(cutter.take());
  }
  return module;
}

}  // namespace fpdist::ptx
