// fpdist_bench gemm: the three products of a linear layer, ours against ATen's GEMM, in turn in every round, so that a
// slow moment hits both. Forward y = x W^T; dx = dy W; dW: ours adds dy^T x to a main grad (float32 under bfloat16),
// ATen's makes it in the weight's dtype. On a GPU ATen runs on each of its libraries, and the best one counts.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"
#include "src/main/bench/bench.hpp"
#include "src/main/bench/model_shape.hpp"

namespace fpdist::bench {
namespace {

namespace po = boost::program_options;

struct Options {
  DeviceOption device;
  DTypeChoice dtype;
  std::string model = "qwen2.5-7b", json;
  std::vector<std::string> shapes;
  int64_t rows = 8192, rounds = 7, calls = 5;
};

struct GemmShape {
  int64_t in, out;
  bool operator==(const GemmShape&) const = default;
};

/// The linear layers of a block, each shape once.
std::vector<GemmShape> shapes_of(const arch::Model& model) {
  const arch::ModelShape of = model.shape();
  const int64_t q = of.heads * of.head_dim, kv = of.kv_heads * of.head_dim;
  std::vector<GemmShape> all;
  for (const GemmShape& shape : {GemmShape{of.hidden, q}, GemmShape{of.hidden, kv}, GemmShape{q, of.hidden},
                                 GemmShape{of.hidden, of.intermediate}, GemmShape{of.intermediate, of.hidden}})
    if (std::find(all.begin(), all.end(), shape) == all.end()) all.push_back(shape);
  return all;
}

/// One of the three products, both ways.
struct Product {
  const char* name;
  std::function<void()> ours, aten;
};

/// ATen's GEMM libraries on this device; the CPU has one.
std::vector<at::BlasBackend> libraries(const comm::Device& device) {
  if (device.where().is_cpu()) return {at::BlasBackend::Default};
  return {at::BlasBackend::Cublas, at::BlasBackend::Cublaslt};
}

void use(const comm::Device& device, at::BlasBackend library) {
  if (!device.where().is_cpu()) at::globalContext().setBlasPreferredBackend(library);
}

nlohmann::ordered_json measure(comm::Device& device, const Product& product, const Options& options) {
  const auto backends = libraries(device);
  std::vector<double> ours, best(static_cast<size_t>(options.rounds)), ratio;
  std::vector<std::vector<double>> aten(backends.size());
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first is a warm-up
    const double own = seconds_a_call(device, options.calls, product.ours);
    if (round >= 0) ours.push_back(own);
    for (size_t b = 0; b < backends.size(); ++b) {
      use(device, backends[b]);
      const double theirs = seconds_a_call(device, options.calls, product.aten);
      if (round >= 0) aten[b].push_back(theirs);
    }
    use(device, at::BlasBackend::Default);
  }
  const auto fastest =
      std::min_element(aten.begin(), aten.end(), [](const auto& a, const auto& b) { return median(a) < median(b); });
  for (size_t i = 0; i < ours.size(); ++i) ratio.push_back((*fastest)[i] / ours[i]);
  return {{"ours_ms", median(ours) * 1e3}, {"aten_ms", median(*fastest) * 1e3}, {"ratio", median(ratio)}};
}

std::vector<Product> products(const GemmShape& shape, int64_t rows, const at::TensorOptions& on) {
  const at::Tensor x = at::randn({rows, shape.in}, on), w = at::randn({shape.out, shape.in}, on) * 0.02;
  const at::Tensor dy = at::randn({rows, shape.out}, on);
  const auto dtype = on.dtype() == at::kBFloat16 ? at::kFloat : at::typeMetaToScalarType(on.dtype());
  at::Tensor main_grad = at::zeros({shape.out, shape.in}, on.dtype(dtype));
  return {{"forward", [=] { kernels::linear(x, w, {}, {}, {}); }, [=] { at::linear(x, w); }},
          {"dx", [=] { kernels::linear_backward_input(dy, w); }, [=] { at::mm(dy, w); }},
          {"dw", [=]() mutable { kernels::linear_backward_weight(dy, x, main_grad); }, [=] { at::mm(dy.t(), x); }}};
}

void run(comm::World& world, const Options& options, const std::vector<GemmShape>& shapes) {
  check<ConfigError>(world.size() == 1, "gemm measures one rank: start it without mpirun");
  const std::unique_ptr<comm::Device> device = options.device.open(world);
  const at::ScalarType dtype = options.dtype.on(*device);
  const at::TensorOptions on = at::TensorOptions(device->where()).dtype(dtype);
  const at::NoGradGuard no_grad;
  Table table({{"product", "product", 9},
               {"rows", "rows", 8},
               {"in", "in", 8},
               {"out", "out", 8},
               {"ours_ms", "ours ms", 12, 3},
               {"aten_ms", "ATen ms", 12, 3},
               {"tflops", "TFLOP/s", 10, 2},
               {"ratio", "ATen/ours", 11, 3}},
              options.json, world.rank() == 0);
  for (const GemmShape& shape : shapes)
    for (const Product& product : products(shape, options.rows, on)) {
      nlohmann::ordered_json line = {{"bench", "gemm"},         {"device", device->description()},
                                     {"dtype", name_of(dtype)}, {"product", product.name},
                                     {"rows", options.rows},    {"in", shape.in},
                                     {"out", shape.out}};
      line.update(measure(*device, product, options));
      const double operations = 2.0 * static_cast<double>(options.rows) * static_cast<double>(shape.in * shape.out);
      line["tflops"] = operations / line["ours_ms"].get<double>() * 1e-9;
      table.add(line);
    }
}

}  // namespace

Body prepare_gemm(const Arguments& arguments) {
  Options options;
  po::options_description all("fpdist_bench gemm");
  options.device.describe(all);
  const auto add = adder(all);
  add("model", options.model, "whose linear layers: qwen2.5-7b, qwen2.5-0.5b, llama-3-8b, small or a config.json");
  all.add_options()("shapes", po::value(&options.shapes)->multitoken(), "IN,OUT ... instead of a model's");
  add("rows", options.rows, "rows of x");
  options.dtype.describe(all);
  add("rounds", options.rounds, "rounds of both; medians are reported");
  add("calls", options.calls, "calls timed together in a round");
  add("json", options.json, "file that gets one JSON line a result");
  if (!parse(arguments, all)) return {};
  check_spared(options.model, options.json);
  check<ConfigError>(options.rows > 0 && options.rounds > 0 && options.calls > 0,
                     "--rows, --rounds and --calls must be 1 or more");
  options.dtype.check();
  std::vector<GemmShape> shapes;
  for (const std::string& given : options.shapes) {
    const std::vector<int64_t> numbers = numbers_of(given, "shapes", 2);
    shapes.push_back({numbers[0], numbers[1]});
  }
  if (shapes.empty()) shapes = shapes_of(model_shape(options.model, 0));
  return [options, shapes](comm::World& world) { run(world, options, shapes); };
}

}  // namespace fpdist::bench
