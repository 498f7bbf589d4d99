// Files that lie: each is a ModelFileError or a valid file, never a crash, an overrun or an allocation of what it
// claims.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using test::contains, test::error_of, test::Scratch, test::slurp, test::spill;

std::string length_bytes(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i) & 0xff));
  return bytes;
}

std::string with_header(const std::string& json, size_t data_bytes) {
  return length_bytes(json.size()) + json + std::string(data_bytes, '\x01');
}

/// The text of the error that a file with these bytes causes.
std::string refusal(const std::string& bytes) {
  const Scratch scratch;
  spill(scratch / "x.safetensors", bytes);
  const std::string what = error_of<ModelFileError>([&] { SafetensorsFile file(scratch / "x.safetensors"); });
  EXPECT_TRUE(contains(what, "x.safetensors")) << what;
  return what;
}

std::string refusal_of_header(const std::string& json, size_t data_bytes) {
  return refusal(with_header(json, data_bytes));
}

TEST(HostileSafetensors, LengthsAreChecked) {
  EXPECT_TRUE(contains(refusal(""), "no safetensors file"));
  EXPECT_TRUE(contains(refusal("1234567"), "no safetensors file"));
  EXPECT_TRUE(contains(refusal(length_bytes(100)), "cut short"));
  EXPECT_TRUE(contains(refusal(length_bytes(~uint64_t{0}) + "{}"), "over the format's"));
  EXPECT_TRUE(contains(refusal(length_bytes(100'000'001) + "{}"), "over the format's"));
  EXPECT_TRUE(contains(refusal(length_bytes(0)), "does not start with {"));
  const Scratch scratch;
  EXPECT_THROW(SafetensorsFile file(scratch / "absent"), ModelFileError);
  EXPECT_THROW(SafetensorsFile file(scratch.path()), ModelFileError);
}

TEST(HostileSafetensors, TheHeaderMustBePlainJson) {
  EXPECT_TRUE(contains(refusal_of_header("[1]", 0), "does not start with {"));
  EXPECT_TRUE(contains(refusal_of_header("{\"a\":", 0), "not valid JSON"));
  EXPECT_TRUE(contains(refusal_of_header("{\"\xff\":{}}", 0), "not valid JSON"));
  EXPECT_TRUE(contains(refusal_of_header("{\"a\":" + std::string(1 << 20, '['), 0), "nested deeper"));
  EXPECT_TRUE(contains(refusal_of_header(R"({"a":3})", 0), "is not an object"));
  EXPECT_TRUE(contains(refusal_of_header(R"({"__metadata__":[]})", 0), "__metadata__ is not an object"));
  EXPECT_TRUE(contains(refusal_of_header(R"({"__metadata__":{"format":1}})", 0), "is not a string"));
}

TEST(HostileSafetensors, DuplicateNamesAreRefused) {
  const std::string w = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_TRUE(contains(refusal_of_header("{\"w\":" + w + ",\"w\":" + w + "}", 4), "\"w\" is given twice"));
  EXPECT_TRUE(contains(refusal_of_header(R"({"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
                       "given twice"));
}

TEST(HostileSafetensors, DtypeShapeAndOffsetsAreChecked) {
  const auto refused = [](const std::string& dtype, const std::string& shape, const std::string& offsets,
                          size_t bytes) {
    return refusal_of_header(
        "{\"w\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}", bytes);
  };
  EXPECT_TRUE(contains(refused("\"F31\"", "[1]", "[0,4]", 4), "unknown dtype \"F31\""));
  EXPECT_TRUE(contains(refused("7", "[1]", "[0,4]", 4), "has no dtype"));
  EXPECT_TRUE(contains(refused("\"F32\"", "4", "[0,4]", 4), "has no shape"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[-1]", "[0,4]", 4), "no whole number"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1.0]", "[0,4]", 4), "no whole number"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[18446744073709551616]", "[0,4]", 4), "no whole number"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[4294967296,4294967296]", "[0,4]", 4), "too large"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[4611686018427387904,4]", "[0,0]", 0), "too large"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[0,9223372036854775807,9]", "[0,0]", 0), "too large"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1]", "[0]", 4), "no pair of data_offsets"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1]", "[-4,0]", 4), "no pair of data_offsets"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1]", "[4,0]", 4), "damaged"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[2]", "[0,8]", 4), "cut short"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1]", "[0,8]", 8), "takes 8 bytes where dtype and shape need 4"));
  EXPECT_TRUE(contains(refused("\"F32\"", "[1]", "[0,4]", 8), "8 data bytes, tensors end at 4"));
}

TEST(HostileSafetensors, HolesAndOverlapsAreRefused) {
  const auto refused = [](const std::string& first, const std::string& second, size_t bytes) {
    const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":)";
    return refusal_of_header("{\"a\":" + entry + first + "},\"b\":" + entry + second + "}}", bytes);
  };
  EXPECT_TRUE(contains(refused("[0,4]", "[0,4]", 4), "an overlap"));
  EXPECT_TRUE(contains(refused("[0,4]", "[2,6]", 6), "an overlap"));
  EXPECT_TRUE(contains(refused("[0,4]", "[8,12]", 12), "a hole"));
  EXPECT_TRUE(contains(refused("[4,8]", "[8,12]", 12), "a hole"));
}

std::string valid_file(const Scratch& scratch) {
  write_safetensors(scratch / "valid", {{"model.norm.weight", at::ones({24})},
                                        {"lm_head.weight", at::ones({5, 3}, at::kBFloat16)},
                                        {"empty", at::ones({0})}});
  return slurp(scratch / "valid");
}

TEST(HostileSafetensors, ATruncatedFileIsRefused) {
  const Scratch scratch;
  const std::string bytes = valid_file(scratch);
  for (size_t sixteenth = 0; sixteenth < 16; ++sixteenth) {
    spill(scratch / "cut", bytes.substr(0, bytes.size() * sixteenth / 16));
    EXPECT_THROW(SafetensorsFile file(scratch / "cut"), ModelFileError) << sixteenth << "/16";
  }
}

TEST(HostileSafetensors, AnyFlippedHeaderBitIsRefusedOrHarmless) {
  const Scratch scratch;
  const std::string bytes = valid_file(scratch);
  const size_t header = 8 + static_cast<unsigned char>(bytes[0]) + 256u * static_cast<unsigned char>(bytes[1]);
  constexpr uint64_t kSeed = 20261121;
  Rng rng(kSeed);
  int refused = 0;
  for (int trial = 0; trial < 500; ++trial) {
    SCOPED_TRACE("seed " + std::to_string(kSeed) + " trial " + std::to_string(trial));
    std::string damaged = bytes;
    const uint64_t flips = 1 + rng.below(3);
    for (uint64_t flip = 0; flip < flips; ++flip) {
      char& byte = damaged[rng.below(header)];
      byte = static_cast<char>(byte ^ (1 << rng.below(8)));
    }
    spill(scratch / "flipped", damaged);
    try {
      const SafetensorsFile file(scratch / "flipped");
      for (const auto& [name, info] : file.tensors()) {  // all bytes can be touched
        const at::Tensor tensor = file.tensor(name);
        const auto* data = static_cast<const unsigned char*>(tensor.const_data_ptr());
        uint64_t sum = 0;
        for (size_t i = 0; i < tensor.nbytes(); ++i) sum += data[i];
        EXPECT_LE(sum, bytes.size() * 255);
      }
    } catch (const ModelFileError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 250);
}

}  // namespace
}  // namespace fpdist::checkpoint
