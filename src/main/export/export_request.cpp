#include "src/main/export/export_request.hpp"

#include <array>
#include <boost/program_options.hpp>
#include <charconv>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::main_program {
namespace {

namespace po = boost::program_options;

/// "5GB", "500MB", "2GiB" or a number of bytes.
int64_t parse_bytes(const std::string& words) {
  constexpr std::array<std::pair<std::string_view, int64_t>, 7> kUnits{{{"", 1},
                                                                        {"KB", 1'000},
                                                                        {"MB", 1'000'000},
                                                                        {"GB", 1'000'000'000},
                                                                        {"KiB", int64_t{1} << 10},
                                                                        {"MiB", int64_t{1} << 20},
                                                                        {"GiB", int64_t{1} << 30}}};
  int64_t number = 0, bytes = 0;
  const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), number);
  for (const auto& [unit, factor] : kUnits)
    if (error == std::errc() && number > 0 && unit == end && !__builtin_mul_overflow(number, factor, &bytes))
      return bytes;
  throw ConfigError(text("--max-shard-size ", words, ": give a size such as 5GB, 500MB or 2GiB"));
}

}  // namespace

ExportRequest parse_export_request(const std::vector<std::string>& arguments) {
  ExportRequest request;
  std::string dtype, shard_size;
  po::options_description options;
  auto add = options.add_options();
  add("help,h", po::bool_switch(&request.help));
  add("version", po::bool_switch(&request.version));
  add("from", po::value(&request.from));
  add("to", po::value(&request.to));
  add("dtype", po::value(&dtype)->default_value("auto"));
  add("max-shard-size", po::value(&shard_size)->default_value("5GB"));
  add("merge", po::bool_switch(&request.merge));
  add("ntk", po::bool_switch(&request.ntk));
  add("base", po::value(&request.base));
  add("prefix", po::value(&request.prefix));
  add("to-checkpoint", po::bool_switch(&request.to_checkpoint));
  po::positional_options_description places;
  places.add("from", 1).add("to", 1);
  try {
    po::variables_map values;
    po::store(po::command_line_parser(arguments).options(options).positional(places).run(), values);
    po::notify(values);
    check<ConfigError>(request.help || request.version || (!request.from.empty() && !request.to.empty()),
                       "fpdist_export wants an input and an output folder; see fpdist_export --help");
    check<ConfigError>(!request.to_checkpoint || (values["dtype"].defaulted() && values["max-shard-size"].defaulted()),
                       "--to-checkpoint takes neither --dtype nor --max-shard-size: masters are as the optimizer's");
    check<ConfigError>(!request.merge || (values["dtype"].defaulted() && !request.to_checkpoint),
                       "--merge takes neither --dtype nor --to-checkpoint: weights stay as the model has them");
    check<ConfigError>(request.merge || request.ntk || request.base.empty(),
                       "--base is the model of an adapter: say --merge or --ntk too");
    const bool is_plain = values["dtype"].defaulted() && !request.merge && !request.to_checkpoint;
    check<ConfigError>((request.prefix.empty() && !request.ntk) || is_plain, request.ntk ? "--ntk" : "--prefix",
                       " takes neither --dtype nor --merge nor --to-checkpoint: it makes an adapter of an adapter");
    check<ConfigError>(request.prefix.empty() || !request.ntk,
                       "--prefix and --ntk are two steps: take the prefix first, and turn what that has written");
  } catch (const po::error& error) {
    throw ConfigError(text(error.what(), "; see fpdist_export --help"));
  }
  if (dtype != "auto") request.dtype = dtype_from_name(dtype);
  request.max_shard_bytes = parse_bytes(shard_size);
  return request;
}

}  // namespace fpdist::main_program
