#include "src/checkpoint/nf4_tensors.hpp"

#include <ATen/ATen.h>

#include <array>
#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::checkpoint {
namespace {

constexpr const char *kAbsmax = ".absmax", *kTable = ".quant_map", *kNestedAbsmax = ".nested_absmax",
                     *kNestedMap = ".nested_quant_map", *kState = ".quant_state.bitsandbytes__nf4",
                     *kOtherState = ".quant_state.bitsandbytes__fp4";

/// Reads and checks one weight.
class Nf4Reader {
 public:
  Nf4Reader(const HfDirectory& directory, const std::string& weight, const std::vector<int64_t>& shape)
      : directory_(directory), weight_(weight) {
    matrix_.sizes = shape;
  }

  ops::Nf4 read() {
    require(!directory_.contains(weight_ + kOtherState), "is quantised in fp4: quantise it in nf4");
    read_state();
    const int64_t n = matrix_.elements(), blocks = (n + matrix_.block - 1) / matrix_.block;
    // bnb_4bit_quant_storage: the codes' bytes under any dtype.
    matrix_.code = directory_.tensor(weight_).contiguous().flatten().view(at::kByte);
    require(matrix_.code.numel() == (n + 1) / 2, text("has ", matrix_.code.numel(), " bytes for ", n, " elements"));
    require(at::equal(part(kTable, at::kFloat, 16), ops::nf4_table()), "has another quant_map than nf4's");
    if (directory_.contains(weight_ + kNestedAbsmax)) {
      matrix_.absmax = part(kAbsmax, at::kByte, blocks);
      matrix_.nested_absmax =
          part(kNestedAbsmax, at::kFloat, (blocks + matrix_.nested_block - 1) / matrix_.nested_block);
      matrix_.nested_map = part(kNestedMap, at::kFloat, 256);
    } else {
      matrix_.absmax = part(kAbsmax, at::kFloat, blocks);
    }
    return std::move(matrix_);
  }

 private:
  void require(bool good, const std::string& complaint) const {
    check<ModelFileError>(good, directory_.path(), ": tensor \"", weight_, "\" ", complaint);
  }
  at::Tensor part(const char* name, at::ScalarType dtype, int64_t size) const {
    require(directory_.contains(weight_ + name), text("lacks its ", name + 1));
    const at::Tensor read = directory_.tensor(weight_ + name).contiguous().flatten();
    require(read.scalar_type() == dtype && read.numel() == size,
            text("has ", read.numel(), " ", c10::toString(read.scalar_type()), " in ", name + 1, ", needs ", size, " ",
                 c10::toString(dtype)));
    return read;
  }
  /// The bytes of a JSON object.
  void read_state() {
    require(directory_.contains(weight_ + kState), text("lacks its ", kState + 1));
    const at::Tensor bytes = directory_.tensor(weight_ + kState).contiguous().flatten();
    require(bytes.scalar_type() == at::kByte, "has a quant_state that is no text");
    const std::string json(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                           static_cast<size_t>(bytes.numel()));
    const nlohmann::json state = files::parse_strict(json, text(directory_.path(), ": ", weight_, kState), 4);
    try {
      require(state.at("quant_type") == "nf4" && state.at("shape").get<std::vector<int64_t>>() == matrix_.sizes,
              text("is ", state.at("quant_type").dump(), " of ", state.at("shape").dump(), ", config.json asks for ",
                   nlohmann::json(matrix_.sizes).dump(), " in nf4"));
      matrix_.block = state.at("blocksize").get<int64_t>();
      matrix_.stored = dtype_of(state.at("dtype").get<std::string>());
      matrix_.nested_block = state.value("nested_blocksize", int64_t{256});
      matrix_.nested_offset = state.value("nested_offset", 0.0);
    } catch (const nlohmann::json::exception& error) {
      require(false, text("has a quant_state that is not understood: ", error.what()));
    }
    require(matrix_.block >= 8 && matrix_.block % 8 == 0 && matrix_.nested_block >= 1,
            text("has blocks of ", matrix_.block, ", needs a multiple of 8"));
  }
  at::ScalarType dtype_of(const std::string& name) const {
    static constexpr std::array kNames{std::pair{"float32", at::kFloat}, std::pair{"bfloat16", at::kBFloat16},
                                       std::pair{"float16", at::kHalf}};
    for (const auto& [known, dtype] : kNames)
      if (name == known) return dtype;
    throw ModelFileError(text(directory_.path(), ": tensor \"", weight_, "\" was quantised from ", name,
                              ", needs float32, bfloat16 or float16"));
  }

  const HfDirectory& directory_;
  const std::string& weight_;
  ops::Nf4 matrix_;
};

}  // namespace

std::vector<std::string> nf4_parts(const std::string& weight) {
  std::vector<std::string> all;
  for (const char* part : {kAbsmax, kTable, kNestedAbsmax, kNestedMap, kState}) all.push_back(weight + part);
  return all;
}

bool holds_quantized(const HfDirectory& directory, const std::string& weight) {
  return directory.contains(weight + kAbsmax) || directory.contains(weight + kState);
}

ops::Nf4 read_nf4(const HfDirectory& directory, const std::string& weight, const std::vector<int64_t>& shape) {
  return Nf4Reader(directory, weight, shape).read();
}

}  // namespace fpdist::checkpoint
