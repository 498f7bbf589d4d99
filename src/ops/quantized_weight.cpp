#include "fpdist/ops/quantized_weight.hpp"

#include <ATen/ATen.h>

#include <memory>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/quantize.hpp"

namespace fpdist::ops {

at::Tensor QuantizedWeight::value() const {
  check(matrix.code.defined(), "a quantized weight ", at::IntArrayRef(matrix.sizes), " has no codes: load it first");
  return kernels::dequantize_nf4(matrix, dtype);
}

at::Tensor nf4_table() {
  return at::tensor(std::vector<float>(kernels::kNf4Table.begin(), kernels::kNf4Table.end()), at::kFloat);
}

Nf4 quantize(const at::Tensor& matrix, bool nested) { return kernels::quantize_nf4(matrix, nested); }

Nf4 cut(const Nf4& whole, int dim, int64_t begin, int64_t size) {
  const int64_t rows = whole.sizes[0], columns = whole.sizes[1];
  // Blocks follow each other over the rows: of columns each row has its own run, of rows there is one.
  const int64_t runs = dim == 0 ? 1 : rows, period = dim == 0 ? rows * columns : columns;
  const int64_t from = dim == 0 ? begin * columns : begin, length = dim == 0 ? size * columns : size;
  for (const int64_t place : {runs == 1 ? int64_t{0} : period, from, length})
    check(place % whole.block == 0, "indices [", begin, ", ", begin + size, ") along dim ", dim, " of ", rows, " x ",
          columns, " are no whole blocks of ", whole.block, " elements");
  Nf4 part = kernels::without_nesting(whole);
  const auto of = [&](const at::Tensor& flat, int64_t each) {  // `each` elements of the matrix to one of `flat`
    return flat.narrow(0, 0, runs * period / each)
        .view({runs, period / each})
        .narrow(1, from / each, length / each)
        .flatten()
        .clone();
  };
  part.code = of(part.code, 2),
  part.absmax =
      dim == 0 ? part.absmax.narrow(0, from / whole.block, length / whole.block).clone() : of(part.absmax, whole.block);
  part.sizes[static_cast<size_t>(dim)] = size;
  return part;
}

void store(Parameter& parameter, const Nf4& whole) {
  check(parameter.quantized != nullptr, "parameter '", parameter.name, "' is not quantized");
  QuantizedWeight weight = *parameter.quantized;
  const Sharding& sharding = parameter.sharding;
  const std::vector<int64_t> own = weight.matrix.sizes;
  const at::IntArrayRef wanted = sharding.dim < 0 ? own : at::IntArrayRef(sharding.full_shape);
  check(wanted == whole.sizes, "parameter '", parameter.name, "' is ", wanted, ", the quantized weight ",
        at::IntArrayRef(whole.sizes));
  weight.matrix =
      sharding.dim < 0 ? whole : cut(whole, sharding.dim, sharding.begin, own[static_cast<size_t>(sharding.dim)]);
  for (at::Tensor* part :
       {&weight.matrix.code, &weight.matrix.absmax, &weight.matrix.nested_absmax, &weight.matrix.nested_map})
    if (part->defined())
      *part = part->to(weight.device, /*non_blocking=*/false, /*copy=*/true);  // not the file's pages
  parameter.quantized = std::make_shared<const QuantizedWeight>(std::move(weight));
}

}  // namespace fpdist::ops
