// The command line over the file over the defaults. Read by hand: our names carry sections, '-' for '_', --no-x and
// hints for unknown keys, none of which an option parser gives.

#include "fpdist/config/command_line.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <string_view>

#include "fpdist/core/error.hpp"
#include "src/config/help.hpp"
#include "src/config/keys.hpp"
#include "src/config/names.hpp"
#include "src/config/yaml.hpp"

namespace fpdist::config {
namespace {

/// TRL 1.16's trainers' own.
double learning_rate_of(Method method) {
  switch (method) {
    case Method::kSft:
      return 2e-5;
    case Method::kReward:
      return 1e-4;
    case Method::kPrm:
      return 1e-5;
    case Method::kDpo:
    case Method::kGrpo:
    case Method::kKto:
    case Method::kCpo:
    case Method::kOrpo:
      return 1e-6;
  }
  throw std::logic_error("a method without a learning rate");
}

struct Assignment {
  const ConfigKey* key;
  std::string argument, value;
};

bool is_bool(const ConfigKey& key) {
  Config any;
  return std::holds_alternative<bool*>(key.field(any));
}

Texts split(const std::string& value) {
  Texts out;
  for (size_t begin = 0; begin <= value.size();) {
    const size_t end = std::min(value.find(',', begin), value.size());
    if (end > begin) out.push_back(value.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

class Reader {
 public:
  explicit Reader(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  CommandLine read() {
    while (at_ < arguments_.size()) read_argument(arguments_[at_++]);
    line_.file = file_;
    if (line_.help || line_.version) return line_;
    double& rate = line_.config.optim.learning_rate;
    rate = std::numeric_limits<double>::quiet_NaN();  // which nobody can write
    if (!file_.empty()) {
      std::vector<std::string> in_file = read_yaml(file_, line_.config);
      problems_.insert(problems_.begin(), in_file.begin(), in_file.end());
    }
    for (const Assignment& assignment : assignments_) apply(assignment);
    if (std::isnan(rate)) take_rate_of_method(rate);
    std::string all;
    for (const std::string& problem : problems_) all += (all.empty() ? "" : "\n") + problem;
    if (!all.empty()) throw ConfigError(all);
    config::validate(line_.config);
    return line_;
  }

 private:
  void take_rate_of_method(double& rate) {
    rate = learning_rate_of(line_.config.method);
    line_.chosen.push_back(
        text("optim.learning_rate is ", rate, ", the default of method ", name_of(line_.config.method)));
  }

  void problem(const std::string& argument, const std::string& what) {
    problems_.push_back(text(argument, ": ", what));
  }

  void set_file(const std::string& file) {
    if (!file_.empty()) problem(file, text("a second configuration file after ", file_, "; give one"));
    file_ = file;
  }

  void read_argument(const std::string& argument) {
    if (argument == "-h") {
      read_option("--help");
    } else if (argument.starts_with("--")) {
      read_option(argument);
    } else if (argument.empty() || argument.starts_with("-")) {
      problem(text("'", argument, "'"), "options start with two dashes; --help lists them");
    } else {
      set_file(argument);
    }
  }

  void read_option(const std::string& argument) {
    const size_t equal = argument.find('=');
    const bool has_value = equal != std::string::npos;
    const std::string name = argument.substr(2, has_value ? equal - 2 : std::string::npos);
    std::string value = has_value ? argument.substr(equal + 1) : std::string();
    if (read_flag(name, has_value, argument)) return;
    if (name == "config") {
      if (has_value || take_value(argument, value)) set_file(value);
      return;
    }
    const ConfigKey* key = find_key(name);
    if (!key && (name.starts_with("no-") || name.starts_with("no_"))) {
      key = find_key(std::string_view(name).substr(3));
      if (key && (!is_bool(*key) || has_value)) {
        problem(argument, text("--no- takes no value and a true-or-false key; write --", key->name, " VALUE"));
        return;
      }
      if (key) return assignments_.push_back({key, argument, "false"});
    }
    if (!key) {
      // What follows is its value: no file, and no error of its own.
      if (!has_value && at_ < arguments_.size() && !arguments_[at_].starts_with("--")) ++at_;
      return problem(argument, unknown_key(name));
    }
    if (!has_value && is_bool(*key)) {
      const bool next_is_value = at_ < arguments_.size() && (arguments_[at_] == "true" || arguments_[at_] == "false");
      value = next_is_value ? arguments_[at_++] : "true";
    } else if (!has_value && !take_value(argument, value)) {
      return;
    }
    assignments_.push_back({key, argument, value});
  }

  bool read_flag(const std::string& name, bool has_value, const std::string& argument) {
    bool* flag = name == "help"                                     ? &line_.help
                 : name == "version"                                ? &line_.version
                 : name == "plan"                                   ? &line_.plan
                 : name == "quiet"                                  ? &line_.quiet
                 : name == "print-config" || name == "print_config" ? &line_.print_config
                                                                    : nullptr;
    if (flag && has_value) problem(argument, text("--", name, " takes no value"));
    if (flag) *flag = true;
    if (flag == &line_.help && at_ < arguments_.size() && is_help_topic(arguments_[at_]))
      line_.topic = arguments_[at_++];
    return flag != nullptr;
  }

  bool take_value(const std::string& argument, std::string& value) {
    if (at_ >= arguments_.size() || arguments_[at_].starts_with("--")) {
      problem(argument, "needs a value");
      return false;
    }
    value = arguments_[at_++];
    return true;
  }

  /// A repeated list or map key adds to what the command line gave before, never to the file's.
  void apply(const Assignment& assignment) {
    const Field field = assignment.key->field(line_.config);
    const bool first = given_.insert(assignment.key).second;
    RawValue value = assignment.value;
    if (auto* const* list = std::get_if<Texts*>(&field)) {
      Texts all = first ? Texts() : **list;
      for (std::string& item : split(assignment.value)) all.push_back(std::move(item));
      value = all;
    } else if (std::holds_alternative<Integers*>(field) || std::holds_alternative<Numbers*>(field)) {
      value = split(assignment.value);
    } else if (auto* const* map = std::get_if<TextMap*>(&field)) {
      TextMap all = first ? TextMap() : **map;
      for (const std::string& item : split(assignment.value)) {
        const size_t equal = item.find('=');
        if (equal == std::string::npos || equal == 0)
          return problem(assignment.argument, text("expected ours=theirs, got '", item, "'"));
        all[item.substr(0, equal)] = item.substr(equal + 1);
      }
      value = all;
    }
    if (const auto wrong = assign(*assignment.key, value, line_.config)) problem(assignment.argument, *wrong);
  }

  const std::vector<std::string>& arguments_;
  size_t at_ = 0;
  CommandLine line_;
  std::string file_;
  std::vector<Assignment> assignments_;
  std::set<const ConfigKey*> given_;
  std::vector<std::string> problems_;
};

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) { return Reader(arguments).read(); }

}  // namespace fpdist::config
