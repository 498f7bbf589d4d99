// The PTX machine on kernels as nvcc makes them: products by mma.sync and by wgmma, right whatever the order of warps
// and of copies, and every mistake planted in them (FAULT) reported as what it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/emulation/ptx/ptx_case.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

constexpr int kTile = 64;

Module kernels_of(const std::string& name, int fault) {
  std::ifstream file(std::string(FPDIST_PTX_DIR) + "/" + name + "_" + std::to_string(fault) + ".ptx");
  std::stringstream text;
  text << file.rdbuf();
  return parse(text.str());
}

/// bfloat16 [rows,columns] that the machine watches, or float32 to write.
template <typename T>
struct Matrix {
  std::shared_ptr<T> data;
  int rows, columns;
  Matrix(TestMemory& memory, int rows, int columns, uint64_t seed) : rows(rows), columns(columns) {
    const size_t bytes = sizeof(T) * static_cast<size_t>(rows * columns);
    data.reset(static_cast<T*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256)), std::free);
    memory.add(data.get(), bytes, seed != 0);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < rows * columns && seed != 0; ++i) data.get()[i] = static_cast<T>(to_bfloat16(normal(random)));
  }
  double at(int row, int column) const {
    const T value = data.get()[row * columns + column];
    return std::is_same_v<T, float> ? static_cast<double>(value) : from_bfloat16(static_cast<uint32_t>(value));
  }
  TensorMap map() const {
    TensorMap map;
    map.base = reinterpret_cast<uint64_t>(data.get()), map.rank = 2, map.element_bytes = sizeof(T);
    map.size[0] = static_cast<uint64_t>(columns), map.size[1] = static_cast<uint64_t>(rows);
    map.stride[0] = static_cast<uint64_t>(columns) * sizeof(T);
    map.box[0] = map.box[1] = kTile, map.swizzle = Swizzle::k128;
    return map;
  }
};
using Bfloats = Matrix<uint16_t>;

struct Parameters {
  std::vector<uint8_t> bytes;
  template <typename T>
  void add(const T& value, size_t size = sizeof(T), size_t alignment = alignof(T)) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    const size_t at = bytes.size();
    bytes.resize(at + size);
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
};

/// The largest error over the largest element.
template <typename C, typename B>
double error_of(const C& c, const Bfloats& a, int inner, const B& b) {
  double worst = 0, largest = 1;
  for (int row = 0; row < c.rows; ++row)
    for (int column = 0; column < c.columns; ++column) {
      double right = 0;
      for (int k = 0; k < inner; ++k) right += a.at(row, k) * b(k, column);
      const double apart = std::fabs(c.at(row, column) - right);
      if (std::isnan(apart)) return apart;
      worst = std::max(worst, apart), largest = std::max(largest, std::fabs(right));
    }
  return worst / largest;
}

struct Product {
  double error = 0;
  Counters counters;
};

Product portable(int m, int n, int k, int fault = 0, uint64_t seed = 0) {
  TestMemory memory;
  const Bfloats a(memory, m, k, 1), b(memory, n, k, 2);
  const Matrix<float> c(memory, m, n, 0);
  Parameters parameters;
  for (const void* const address :
       {static_cast<void*>(a.data.get()), static_cast<void*>(b.data.get()), static_cast<void*>(c.data.get())})
    parameters.add(address);
  for (const int size : {m, n, k}) parameters.add(size);
  Product product;
  run(*kernels_of("portable_product", fault).at("portable_product"),
      {.grid = {static_cast<uint32_t>((n + 63) / 64), static_cast<uint32_t>((m + 63) / 64), 1},
       .block = {128, 1, 1},
       .dynamic_shared = 4 * kTile * 128,
       .parameters = parameters.bytes},
      memory, {.seed = seed}, product.counters);
  product.error = error_of(c, a, k, [&](int i, int column) { return b.at(column, i); });
  return product;
}

Product hopper(int m, int n, int k, bool is_by_columns = false, int fault = 0, uint64_t seed = 0) {
  TestMemory memory;
  const Bfloats a(memory, m, k, 1), b(memory, is_by_columns ? k : n, is_by_columns ? n : k, 2), c(memory, m, n, 0);
  Parameters parameters;
  for (const TensorMap& map : {a.map(), b.map(), c.map()}) {
    EXPECT_EQ(why_refused(map), "");
    parameters.add(map, 128, 128);
  }
  parameters.add(k);
  Product product;
  run(*kernels_of("hopper_product", fault).at(is_by_columns ? "hopper_product_of_columns" : "hopper_product"),
      {.grid = {static_cast<uint32_t>((n + 63) / 64), static_cast<uint32_t>((m + 63) / 64), 1},
       .block = {256, 1, 1},
       .dynamic_shared = 5 * kTile * 128,
       .parameters = parameters.bytes},
      memory, {.seed = seed}, product.counters);
  product.error =
      error_of(c, a, k, [&](int i, int column) { return is_by_columns ? b.at(i, column) : b.at(column, i); });
  return product;
}

constexpr double kOneRounding = 1.0 / 256;

TEST(Products, ByMmaAreRightForAnyRowsAndWithoutBankConflicts) {
  for (const uint64_t seed : {0, 1, 2}) EXPECT_LT(portable(130, 72, 192, 0, seed).error, 1e-5);
  const Counters counters = portable(64, 64, 128).counters;
  EXPECT_EQ(counters.tensor_flop, 2u * 64 * 64 * 128);
  EXPECT_EQ(counters.shared_waves, counters.least_shared_waves);
}

TEST(Products, ByWgmmaAreRightForAnyRowsAndBothLayouts) {
  for (const uint64_t seed : {0, 1, 2})
    for (const bool is_by_columns : {false, true})
      EXPECT_LT(hopper(130, 72, 256, is_by_columns, 0, seed).error, kOneRounding) << is_by_columns << " seed " << seed;
  const Counters counters = hopper(64, 64, 128).counters;
  EXPECT_EQ(counters.tensor_flop, 2u * 64 * 64 * 128);
  EXPECT_EQ(counters.tma_bytes, 5u * 64 * 64 * 2);
}

TEST(Products, EveryMistakeWithMmaIsReported) {
  const std::pair<int, const char*> reports[] = {{1, "races: reads shared"},
                                                 {2, "reads outside every allocation"},
                                                 {3, "while a copy into it is under way"},
                                                 {4, "is misaligned: shared"},
                                                 {5, "races: writes shared"},
                                                 {6, "deadlock"},
                                                 {7, "divergent"},
                                                 {8, "writes outside every allocation"}};
  for (const auto& [fault, report] : reports)
    EXPECT_THAT(report_of([&, fault = fault] { portable(130, 64, 256, fault); }), testing::HasSubstr(report)) << fault;
}

TEST(Products, EveryMistakeWithWgmmaIsReported) {
  const std::pair<int, const char*> reports[] = {{1, "no fence made visible to the async proxy"},
                                                 {2, "arrives more often than the mbarrier was initialised for"},
                                                 {3, "while a copy into it is under way"},
                                                 {4, "deadlock"},
                                                 {5, "fence"},
                                                 {6, "still reads it"},
                                                 {7, "no fence.proxy.async between"},
                                                 {8, "reads"},
                                                 {9, "touches a register of a wgmma that was not waited for"},
                                                 {10, "shared"},
                                                 {11, "deadlock"}};
  for (const auto& [fault, report] : reports)
    EXPECT_THAT(report_of([&, fault = fault] { hopper(64, 64, 256, false, fault); }), testing::HasSubstr(report))
        << fault;
}

TEST(TensorMap, RefusesWhatTheDriverRefuses) {
  TensorMap map;
  map.base = 256, map.rank = 2, map.element_bytes = 2, map.swizzle = Swizzle::k128;
  map.size[0] = map.size[1] = 128, map.stride[0] = 256, map.box[0] = map.box[1] = 64;
  EXPECT_EQ(why_refused(map), "");
  const auto with = [&](auto change) {
    TensorMap other = map;
    change(other);
    return why_refused(other);
  };
  EXPECT_THAT(with([](TensorMap& m) { m.base = 8; }), testing::HasSubstr("base"));
  EXPECT_THAT(with([](TensorMap& m) { m.stride[0] = 250; }), testing::HasSubstr("stride"));
  EXPECT_THAT(with([](TensorMap& m) { m.stride[0] = 240; }), testing::HasSubstr("steps over"));
  EXPECT_THAT(with([](TensorMap& m) { m.rank = 3, m.size[2] = m.box[2] = 1, m.stride[1] = 256 * 128 + 16; }),
              testing::HasSubstr("multiple of the one before"));
  EXPECT_THAT(with([](TensorMap& m) { m.box[0] = 72; }), testing::HasSubstr("swizzle"));
  EXPECT_THAT(with([](TensorMap& m) { m.box[1] = 257; }), testing::HasSubstr("256"));
  EXPECT_THAT(with([](TensorMap& m) { m.rank = 6; }), testing::HasSubstr("rank"));
}

}  // namespace
}  // namespace fpdist::ptx
