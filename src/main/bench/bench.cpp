#include "src/main/bench/bench.hpp"

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"
#include "src/main/program.hpp"

namespace fpdist::bench {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

bool parse(const Arguments& arguments, po::options_description& options, Arguments* rest) {
  bool help = false;
  options.add_options()("help,h", po::bool_switch(&help), "this text");
  try {
    // A name must be whole: what is left over may belong to a config, whose keys begin alike.
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::command_line_parser parser(arguments);
    parser.options(options).style(style);
    // Without positional options a stray word is an error.
    const po::positional_options_description none;
    if (rest != nullptr)
      parser.allow_unregistered();
    else
      parser.positional(none);
    const po::parsed_options parsed = parser.run();
    po::variables_map values;
    po::store(parsed, values);
    po::notify(values);
    if (rest != nullptr) *rest = po::collect_unrecognized(parsed.options, po::include_positional);
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see --help"));
  }
  if (help && main_program::launched_rank() == 0) std::cout << options;
  return !help;
}

void DeviceOption::describe(po::options_description& to) {
  to.add_options()("device", po::value(&name)->default_value("auto"), "cpu | cuda | auto");
  to.add_options()("transport", po::value(&options.transport)->default_value("nccl"), "nccl | staged, with cuda");
  to.add_options()("nccl-max-ctas", po::value(&options.nccl_max_ctas)->default_value(0),
                   "most thread blocks of an NCCL kernel (0: by axis)");
  to.add_options()("share-gpus", po::bool_switch(&options.share_gpus), "more ranks than GPUs on a host: for tests");
}

std::string title_line(const std::vector<Table::TableColumn>& columns) {
  std::ostringstream line;
  for (const Table::TableColumn& column : columns) line << std::setw(column.width) << column.title;
  return line.str();
}

std::string value_line(const std::vector<Table::TableColumn>& columns, const Json& result) {
  std::ostringstream line;
  line << std::fixed;
  for (const Table::TableColumn& column : columns) {
    line << std::setw(column.width) << std::setprecision(column.digits);
    const Json value = result.value(column.key, Json());
    if (value.is_number_float())
      line << value.get<double>();
    else if (value.is_number())
      line << value.get<int64_t>();
    else if (value.is_string())
      line << value.get<std::string>();
    else if (value.is_boolean())
      line << (value.get<bool>() ? "yes" : "no");
    else
      line << "-";
  }
  return line.str();
}

void DTypeChoice::describe(po::options_description& to) {
  adder(to)("dtype", name, "float32 | bfloat16 | auto: bfloat16 on a GPU, float32 on the CPU");
}

void DTypeChoice::check() const {
  fpdist::check<ConfigError>(name == "auto" || name == "float32" || name == "bfloat16",
                             "--dtype is float32, bfloat16 or auto, not ", name);
}

at::ScalarType DTypeChoice::on(const comm::Device& device) const {
  if (name == "auto") return device.where().is_cpu() ? at::kFloat : at::kBFloat16;
  return name == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

std::string name_of(at::ScalarType dtype) { return dtype == at::kBFloat16 ? "bfloat16" : "float32"; }

Table::Table(std::vector<TableColumn> columns, const std::string& json_path, bool is_here)
    : columns_(std::move(columns)), json_path_(json_path), is_here_(is_here) {
  if (is_here_) std::cout << title_line(columns_) << std::endl;
}

void Table::add(const Json& result) {
  if (!is_here_) return;
  std::cout << value_line(columns_, result) << std::endl;
  if (json_path_.empty()) return;
  files::AppendFile file(json_path_, files::AppendFile::Open::kGoOn);
  file.line(result.dump());
  file.close();
}

double seconds_a_call(comm::Device& device, int64_t calls, const std::function<void()>& call) {
  device.mark();
  for (int64_t i = 0; i < calls; ++i) call();
  device.mark();
  return device.seconds().back() / static_cast<double>(calls);
}

double median(std::vector<double> values) {
  check<ConfigError>(!values.empty(), "nothing was measured: ask for at least one round");
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

namespace {

int64_t number_of(std::string_view digits, const std::string& all, std::string_view option) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  check<ConfigError>(error == std::errc() && stop == digits.data() + digits.size() && number > 0, "--", option, " '",
                     all, "': a positive whole number is missing");
  return number;
}

}  // namespace

int64_t bytes_of(const std::string& text, std::string_view option) {
  constexpr std::string_view kUnits = "KMG";
  const size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  const bool has_unit = unit != std::string_view::npos;
  const int64_t number = number_of(std::string_view(text).substr(0, text.size() - (has_unit ? 1 : 0)), text, option);
  return has_unit ? number << (10 * (unit + 1)) : number;
}

std::vector<int64_t> numbers_of(const std::string& text, std::string_view option, size_t count) {
  std::vector<int64_t> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    numbers.push_back(number_of(std::string_view(text).substr(begin, end - begin), text, option));
    begin = end + 1;
  }
  check<ConfigError>(count == 0 || numbers.size() == count, "--", option, " '", text, "': ", count,
                     " numbers with commas between them are asked for");
  return numbers;
}

}  // namespace fpdist::bench
