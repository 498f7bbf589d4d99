#pragma once
// main (fpdist_bench): what its subcommands share. A subcommand reads its arguments first, without MPI and before
// anything is allocated, and returns what the ranks shall do.

#include <c10/core/ScalarType.h>

#include <boost/program_options.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/comm/world.hpp"

namespace fpdist::bench {

using Arguments = std::vector<std::string>;
/// Collective over the world; empty: the arguments asked for nothing that needs ranks, and it is done.
using Body = std::function<void(comm::World&)>;

/// Throw ConfigError for arguments that make no sense.
Body prepare_attention(const Arguments& arguments);
Body prepare_comm(const Arguments& arguments);
Body prepare_decode(const Arguments& arguments);
Body prepare_gemm(const Arguments& arguments);
Body prepare_pointwise(const Arguments& arguments);
Body prepare_step(const Arguments& arguments);
Body prepare_scaling(const Arguments& arguments);

/// False when --help was asked for and answered. `rest`: where arguments go that are not ours; null: they are errors.
bool parse(const Arguments& arguments, boost::program_options::options_description& options, Arguments* rest = nullptr);

/// add(name, field, what): an option that is written to `field` and has its value as default.
inline auto adder(boost::program_options::options_description& to) {
  return [&to](const char* name, auto& field, const char* what) {
    to.add_options()(name, boost::program_options::value(&field)->default_value(field), what);
  };
}

/// Where a subcommand runs, with its options --device, --transport, --nccl-max-ctas and --share-gpus.
struct DeviceOption {
  std::string name = "auto";
  comm::DeviceOptions options;
  void describe(boost::program_options::options_description& to);
  std::unique_ptr<comm::Device> open(const comm::World& world) const;
};

/// The option --dtype.
struct DTypeChoice {
  std::string name = "auto";  ///< float32 | bfloat16 | auto: bfloat16 on a GPU, float32 on the CPU
  void describe(boost::program_options::options_description& to);
  void check() const;  ///< throws ConfigError
  at::ScalarType on(const comm::Device& device) const;
};
std::string name_of(at::ScalarType dtype);  ///< float32 or bfloat16

/// One line a result, on rank 0: columns on the terminal, and whole as JSON lines in a file that is appended to.
class Table {
 public:
  struct TableColumn {
    std::string key, title;  ///< of the result, and what stands above it
    int width = 10, digits = 2;
  };
  Table(std::vector<TableColumn> columns, const std::string& json_path, bool is_here);
  /// Throws DiskError when the line could not be written whole.
  void add(const nlohmann::ordered_json& result);

 private:
  std::vector<TableColumn> columns_;
  std::string json_path_;
  bool is_here_;
};
/// The columns' titles, or one result under them, right-aligned; what a result lacks is a dash.
std::string title_line(const std::vector<Table::TableColumn>& columns);
std::string value_line(const std::vector<Table::TableColumn>& columns, const nlohmann::ordered_json& result);

double median(std::vector<double> values);

/// Of one of `calls` calls, by the device's clock.
double seconds_a_call(comm::Device& device, int64_t calls, const std::function<void()>& call);

/// A number with K, M or G behind it, in powers of 1024. Throws ConfigError.
int64_t bytes_of(const std::string& text, std::string_view option);
/// "16,64,256": positive whole numbers, exactly `count` of them unless that is 0. Throws ConfigError.
std::vector<int64_t> numbers_of(const std::string& text, std::string_view option, size_t count = 0);

}  // namespace fpdist::bench
