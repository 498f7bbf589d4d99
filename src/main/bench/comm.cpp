// fpdist_bench comm: collectives in nccl-tests' terms. `size` is the larger of what a rank gives and gets; algorithm
// bandwidth is size / time; bus bandwidth times the share of it that must cross a rank's link, so that it can be held
// against the hardware whatever the number of ranks (nccl-tests, doc/PERFORMANCE.md). Time: the slowest rank's mean.

#include <ATen/ATen.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "src/main/bench/bench.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;

struct Options {
  DeviceOption device;
  std::string from = "1K", to = "16M", dtype = "float32", json;
  std::vector<std::string> collectives;
  int64_t iterations = 20, warmup = 5;
  int64_t from_bytes = 0, to_bytes = 0;
};

/// One collective at one size. Data are small whole numbers, so every sum is exact in every dtype.
class PairExchange {
 public:
  PairExchange(comm::Communicator& ranks, comm::Device& device, at::ScalarType dtype, int64_t bytes)
      : ranks_(ranks), device_(device), size_(ranks.size()), rank_(ranks.rank()), dtype_(dtype) {
    const auto element = static_cast<int64_t>(at::elementSize(dtype));
    each_ = std::max<int64_t>(1, bytes / element / size_);
    counts_.assign(static_cast<size_t>(size_), each_);
    whole_ = each_ * size_;
  }
  virtual ~PairExchange() = default;
  virtual void fill() = 0;
  virtual void call() = 0;
  virtual at::Tensor expected() const = 0;  ///< on the CPU
  virtual double bus_share() const { return 1.0; }

  int64_t count() const { return whole_; }
  int64_t bytes() const { return whole_ * static_cast<int64_t>(at::elementSize(dtype_)); }
  /// Elements of this rank's result that are wrong.
  int64_t wrong() {
    fill();
    call();
    device_.synchronize();
    return out_.to(at::kCPU).ne(expected()).sum().item<int64_t>();
  }
  /// Zeros go round while time is taken, so that sums of sums stay numbers.
  void clear() { in_.zero_(), out_.zero_(); }

 protected:
  at::Tensor numbers(int64_t rank, int64_t begin, int64_t count) const {
    return (at::arange(begin, begin + count, at::kLong) + 3 * rank).remainder(4).to(dtype_);
  }
  at::Tensor sums(int64_t begin, int64_t count) const {
    at::Tensor sum = at::zeros({4}, at::kLong);
    for (int64_t r = 0; r < size_; ++r) sum.add_((at::arange(4, at::kLong) + 3 * r).remainder(4));
    return sum.index_select(0, at::arange(begin, begin + count, at::kLong).remainder(4)).to(dtype_);
  }
  at::Tensor empty(int64_t count) const { return at::empty({count}, at::TensorOptions(device_.where()).dtype(dtype_)); }
  /// Both buffers on the device; `in` may be `out`.
  void place(const at::Tensor& in, int64_t out_count) {
    in_ = in.to(device_.where());
    out_ = out_count > 0 ? empty(out_count) : in_;
  }
  double others() const { return static_cast<double>(size_ - 1) / static_cast<double>(size_); }

  comm::Communicator& ranks_;
  comm::Device& device_;
  int64_t size_, rank_, each_, whole_;
  at::ScalarType dtype_;
  std::vector<int64_t> counts_;
  at::Tensor in_, out_;
};

struct AllReduce final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, whole_), 0); }
  void call() override { ranks_.all_reduce(out_); }
  at::Tensor expected() const override { return sums(0, whole_); }
  double bus_share() const override { return 2 * others(); }
};

struct AllGather final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, each_), whole_); }
  void call() override { ranks_.all_gather_v(in_, out_, counts_); }
  at::Tensor expected() const override {
    std::vector<at::Tensor> all;
    for (int64_t r = 0; r < size_; ++r) all.push_back(numbers(r, 0, each_));
    return at::cat(all);
  }
  double bus_share() const override { return others(); }
};

struct ReduceScatter final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, whole_), each_); }
  void call() override { ranks_.reduce_scatter_v(in_, out_, counts_); }
  at::Tensor expected() const override { return sums(rank_ * each_, each_); }
  double bus_share() const override { return others(); }
};

struct AllToAll final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, whole_), whole_); }
  void call() override { ranks_.all_to_all_v(in_, counts_, out_, counts_); }
  at::Tensor expected() const override {
    std::vector<at::Tensor> all;
    for (int64_t r = 0; r < size_; ++r) all.push_back(numbers(r, rank_ * each_, each_));
    return at::cat(all);
  }
  double bus_share() const override { return others(); }
};

struct Broadcast final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, whole_), 0); }
  void call() override { ranks_.broadcast(out_, 0); }
  at::Tensor expected() const override { return numbers(0, 0, whole_); }
};

/// Every rank sends to the next and receives from the one before, at once.
struct SendReceive final : PairExchange {
  using PairExchange::PairExchange;
  void fill() override { place(numbers(rank_, 0, whole_), whole_); }
  void call() override {
    ranks_.group_begin();
    ranks_.send(in_, static_cast<int>((rank_ + 1) % size_));
    ranks_.receive(out_, static_cast<int>((rank_ + size_ - 1) % size_));
    ranks_.group_end();
  }
  at::Tensor expected() const override { return numbers((rank_ + size_ - 1) % size_, 0, whole_); }
};

const std::vector<std::string> kNames = {"all_reduce", "all_gather", "reduce_scatter",
                                         "all_to_all", "broadcast",  "send_receive"};

template <typename... Parts>
std::unique_ptr<PairExchange> make_exchange(const std::string& name, Parts&&... parts) {
  if (name == "all_reduce") return std::make_unique<AllReduce>(parts...);
  if (name == "all_gather") return std::make_unique<AllGather>(parts...);
  if (name == "reduce_scatter") return std::make_unique<ReduceScatter>(parts...);
  if (name == "all_to_all") return std::make_unique<AllToAll>(parts...);
  if (name == "broadcast") return std::make_unique<Broadcast>(parts...);
  return std::make_unique<SendReceive>(parts...);
}

double seconds_a_call(PairExchange& exchange, comm::Communicator& ranks, comm::Device& device, const Options& options) {
  exchange.clear();
  for (int64_t i = 0; i < options.warmup; ++i) exchange.call();
  device.synchronize();
  ranks.barrier();
  device.mark();
  for (int64_t i = 0; i < options.iterations; ++i) exchange.call();
  device.mark();
  return device.seconds().back() / static_cast<double>(options.iterations);
}

void measure(comm::World& world, const Options& options) {
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  comm::Communicator& host = world.communicator();
  const auto ranks = device->extend(host.split("bench", 0, world.rank()));
  at::Tensor hosts = at::full({1}, world.local_rank() == 0 ? 1 : 0, at::kLong);
  host.all_reduce(hosts);
  Table table({{"collective", "collective", 15},
               {"size", "size (B)", 12},
               {"count", "count", 12},
               {"time_us", "time (us)", 12},
               {"algbw", "algbw (GB/s)", 14, 3},
               {"busbw", "busbw (GB/s)", 14, 3},
               {"wrong", "#wrong", 8}},
              options.json, world.rank() == 0);
  int64_t all_wrong = 0;
  for (const std::string& name : options.collectives)
    for (int64_t bytes = options.from_bytes; bytes <= options.to_bytes; bytes *= 2) {
      const auto dtype = options.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
      const auto exchange = make_exchange(name, *ranks, *device, dtype, bytes);
      at::Tensor wrong = at::full({1}, exchange->wrong(), at::kLong);
      at::Tensor time = at::full({1}, seconds_a_call(*exchange, *ranks, *device, options), at::kDouble);
      host.all_reduce(wrong);
      host.all_reduce(time, comm::ReduceOp::kMax);
      const double seconds = time.item<double>(), algbw = static_cast<double>(exchange->bytes()) / seconds * 1e-9;
      all_wrong += wrong.item<int64_t>();
      table.add({{"bench", "comm"},
                 {"collective", name},
                 {"np", world.size()},
                 {"nodes", hosts.item<int64_t>()},
                 {"device", device->description()},
                 {"dtype", options.dtype},
                 {"size", exchange->bytes()},
                 {"count", exchange->count()},
                 {"time_us", seconds * 1e6},
                 {"algbw", algbw},
                 {"busbw", algbw * exchange->bus_share()},
                 {"wrong", wrong.item<int64_t>()}});
    }
  check<NumericsError>(all_wrong == 0, "comm: ", all_wrong, " elements are wrong");
}

}  // namespace

Body prepare_comm(const Arguments& arguments) {
  Options options;
  po::options_description all("[mpirun -np N] fpdist_bench comm");
  options.device.describe(all);
  const auto add = adder(all);
  add("from", options.from, "smallest size: bytes, or with K, M, G");
  add("to", options.to, "largest size; sizes double");
  add("dtype", options.dtype, "float32 | bfloat16");
  add("iterations", options.iterations, "timed calls");
  add("warmup", options.warmup, "calls before them");
  add("json", options.json, "file that gets one JSON line a result");
  all.add_options()("collectives", po::value(&options.collectives)->multitoken(),
                    "all_reduce all_gather reduce_scatter all_to_all broadcast send_receive (all of them)");
  if (!parse(arguments, all)) return {};
  if (options.collectives.empty()) options.collectives = kNames;
  for (const std::string& name : options.collectives)
    check<ConfigError>(std::find(kNames.begin(), kNames.end(), name) != kNames.end(), "--collectives: ", name,
                       " is unknown; see --help");
  check<ConfigError>(options.dtype == "float32" || options.dtype == "bfloat16", "--dtype is float32 or bfloat16, not ",
                     options.dtype);
  options.from_bytes = bytes_of(options.from, "from"), options.to_bytes = bytes_of(options.to, "to");
  check<ConfigError>(options.from_bytes <= options.to_bytes, "--from is more than --to");
  check<ConfigError>(options.iterations > 0 && options.warmup >= 0, "--iterations must be 1 or more, --warmup 0");
  return [options](comm::World& world) { measure(world, options); };
}

}  // namespace fpdist::bench
