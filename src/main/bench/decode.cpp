// fpdist_bench decode: attention of one layer of a step that decodes, by the kernels for it against our tiles (which
// take whole masks) in turn in every round, and beside them what the keys and values of the tree take at the rate of a
// copy on this GPU. A shape P,N,O,G,T,W: N prompts of P common and O own rows, G completions each, T of its W rows
// there. `plan` is the host's time for a step's plan, of all layers together.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/decode/decode_attention.hpp"
#include "kernels/tree_attention/tiled/tiled_attention.hpp"
#include "src/core/clock.hpp"
#include "src/main/bench/bench.hpp"
#include "src/ops/decoding.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;

constexpr size_t kSizes = 6;

struct DecodeBench {
  DeviceOption device;
  DTypeChoice dtype;
  std::string json;
  std::vector<std::string> shapes = {"1024,16,64,8,9,64", "1,16,1087,1,9,64", "16384,1,64,16,256,512"};
  std::vector<std::string> heads = {"32,8,64", "28,4,128"};
  int64_t rounds = 5, calls = 20;
};

/// The queries of a step and the keys of its tree.
struct StepMask {
  std::vector<int32_t> q_row, k_end;
  int64_t seen = 0;  ///< keys that a query sees, each once

  explicit StepMask(const std::vector<int64_t>& sizes) {
    const auto [common, prompts, own, completions, there, room] =
        std::tuple(sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]);
    const int64_t of_prompt = own + completions * room, rows = common + prompts * of_prompt;
    const auto add = [&](int64_t count, int64_t end) {
      k_end.insert(k_end.end(), static_cast<size_t>(count), static_cast<int32_t>(end));
    };
    add(common, rows);
    for (int64_t p = 0; p < prompts; ++p) {
      add(own, common + (p + 1) * of_prompt);
      for (int64_t i = 0; i < completions; ++i) {
        const auto begin = static_cast<int64_t>(k_end.size());
        q_row.push_back(static_cast<int32_t>(begin + there - 1));
        add(room, begin + room);
      }
    }
    seen = common + prompts * (own + completions * there);
  }
  kernels::AttentionMask mask() const {
    return {at::tensor(q_row, at::kInt), at::arange(static_cast<int64_t>(k_end.size()), at::kInt),
            at::tensor(k_end, at::kInt)};
  }
};

/// Bytes a second that are read and written while `bytes` of them are copied.
double copy_rate(comm::Device& device, int64_t bytes) {
  const at::Tensor from = at::zeros({bytes}, at::TensorOptions(device.where()).dtype(at::kByte));
  at::Tensor to = at::empty_like(from);
  to.copy_(from);
  return 2 * static_cast<double>(bytes) / seconds_a_call(device, 10, [&] { to.copy_(from); });
}

nlohmann::ordered_json measure(comm::Device& device, const StepMask& step, const std::vector<int64_t>& heads,
                               at::ScalarType dtype, double rate, const DecodeBench& options) {
  using namespace kernels;
  const AttentionMask mask = step.mask();
  const auto random = [&](int64_t rows, int64_t count) {
    return at::randn({rows, count, heads[2]}, at::TensorOptions(device.where())).to(dtype);
  };
  const int64_t keys = mask.k_row.numel();
  const AttentionInputs in{random(mask.q_row.numel(), heads[0]), random(keys, heads[1]), random(keys, heads[1])};
  const auto capability = find_operator<int64_t(int64_t)>("fpdist::compute_capability").call(device.where().index());
  const auto runs = ops::runs_of_keys(mask.k_row, mask.k_end);
  const AttentionOptions scaled{.scale = 1 / std::sqrt(static_cast<double>(heads[2])), .rounded = true};
  std::vector<double> plan, ours, tiles, ratio;
  const AttentionCalls calls(mask, *runs, device.where(), capability);
  const DecodeTables* const tables = decode_tables(in, calls, scaled);
  check<ConfigError>(tables != nullptr, "decode: no kernel takes ", heads[0], " : ", heads[1], " heads of ", heads[2]);
  const bool has_tiles = is_tiled(in, calls, scaled);
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first is a warm-up
    const auto started = Clock::now();
    (void)decode_tables(in, AttentionCalls(mask, *runs, device.where(), capability), scaled);
    const double planned = seconds_since(started);
    const double own = seconds_a_call(device, options.calls, [&] { decode_attention(in, *tables, scaled); });
    const double other =
        has_tiles ? seconds_a_call(device, options.calls, [&] { tiled_attention(in, *calls.tiles(), scaled); }) : NAN;
    if (round < 0) continue;
    plan.push_back(planned), ours.push_back(own), tiles.push_back(other), ratio.push_back(other / own);
  }
  const double bytes = 2.0 * static_cast<double>(step.seen * heads[1] * heads[2]) * c10::elementSize(dtype);
  nlohmann::ordered_json line{{"queries", mask.q_row.numel()},  {"keys", step.seen},
                              {"plan_us", median(plan) * 1e6},  {"ours_ms", median(ours) * 1e3},
                              {"bound_ms", bytes / rate * 1e3}, {"of_bound", bytes / rate / median(ours)}};
  if (has_tiles) line["tiles_ms"] = median(tiles) * 1e3, line["ratio"] = median(ratio);
  return line;
}

void run(comm::World& world, const DecodeBench& options) {
  check<ConfigError>(world.size() == 1, "decode measures one rank: start it without mpirun");
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  check<ConfigError>(device->where().is_cuda(), "decode: its kernels run on a GPU: --device cuda");
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = options.dtype.on(*device);
  Table table({{"shape", "P,N,O,G,T,W", 22},
               {"heads", "Hq,Hkv,D", 11},
               {"queries", "queries", 9},
               {"keys", "keys", 8},
               {"plan_us", "plan us", 9, 1},
               {"ours_ms", "ours ms", 9, 4},
               {"tiles_ms", "tiles ms", 10, 4},
               {"ratio", "tiles/ours", 11, 2},
               {"bound_ms", "bytes ms", 10, 4},
               {"of_bound", "of bound", 10, 2}},
              options.json, world.rank() == 0);
  const double rate = copy_rate(*device, int64_t{1} << (options.calls > 1 ? 30 : 16));
  for (const std::string& heads : options.heads)
    for (const std::string& shape : options.shapes) {
      nlohmann::ordered_json line = {{"bench", "decode"},       {"device", device->description()},
                                     {"dtype", name_of(dtype)}, {"shape", shape},
                                     {"heads", heads},          {"copy_gb_s", rate * 1e-9}};
      line.update(measure(*device, StepMask(numbers_of(shape, "shapes", kSizes)), numbers_of(heads, "heads", 3), dtype,
                          rate, options));
      table.add(line);
    }
}

}  // namespace

Body prepare_decode(const Arguments& arguments) {
  DecodeBench options;
  po::options_description all("fpdist_bench decode");
  options.device.describe(all);
  options.dtype.describe(all);
  all.add_options()("shapes", po::value(&options.shapes)->multitoken(),
                    "P,N,O,G,T,W ...: common rows, prompts, own rows, completions of each, rows there, room for them");
  all.add_options()("heads", po::value(&options.heads)->multitoken(),
                    "Hq,Hkv,D ...: query heads, key heads, head size");
  const auto add = adder(all);
  add("rounds", options.rounds, "rounds of both; medians are reported");
  add("calls", options.calls, "calls timed together in a round; 1: also a small copy, for emulated GPUs");
  add("json", options.json, "file that gets one JSON line a result");
  if (!parse(arguments, all)) return {};
  options.dtype.check();
  check<ConfigError>(options.rounds > 0 && options.calls > 0, "--rounds and --calls must be 1 or more");
  for (const std::string& heads : options.heads) numbers_of(heads, "heads", 3);
  for (const std::string& shape : options.shapes) {
    const std::vector<int64_t> sizes = numbers_of(shape, "shapes", kSizes);
    check<ConfigError>(sizes[4] <= sizes[5], "--shapes '", shape, "': ", sizes[4],
                       " rows of a completion, but room for ", sizes[5]);
  }
  return [options](comm::World& world) { run(world, options); };
}

}  // namespace fpdist::bench
