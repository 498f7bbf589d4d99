#include <gtest/gtest.h>

#include "fpdist/core/dtype.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/core/mesh_shape.hpp"
#include "fpdist/core/method.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist {
namespace {

TEST(MeshShape, TheRestOfTheRanksGoesToMinusOne) {
  EXPECT_EQ(resolve_mesh({-1, 1, 1, 1}, 8), (MeshShape{8, 1, 1, 1}));
  EXPECT_EQ(resolve_mesh({2, 2, -1, 1}, 8), (MeshShape{2, 2, 2, 1}));
}

TEST(MeshShape, AWrongProductNamesTheCure) {
  for (auto [mesh, world] : {std::pair{MeshShape{3, 1, 1, 1}, 8},
                             {MeshShape{-1, 3, 1, 1}, 8},
                             {MeshShape{-1, -1, 1, 1}, 8},
                             {MeshShape{0, 1, 1, 1}, 1},
                             {MeshShape{-1, 16, 1, 1}, 8}}) {
    EXPECT_THROW(resolve_mesh(mesh, world), ConfigError) << to_string(mesh);
  }
  test::expect_words(test::error_of<ConfigError>([] { resolve_mesh({3, 1, 1, 1}, 8); }), {"mpirun -np"});
}

TEST(Names, RoundTripAndListTheKnownOnes) {
  for (Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo})
    EXPECT_EQ(method_from_name(name_of(method)), method);
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64})
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  test::expect_words(test::error_of<ConfigError>([] { method_from_name("ppo"); }),
                     {"sft | dpo | reward | grpo | kto | cpo | orpo"});
}

// Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors).
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Rng, StreamsDifferAndBoundsHold) {
  Rng a(7, 0), b(7, 1), again(7, 0);
  EXPECT_NE(a(), b());
  Rng fresh(7, 0);
  EXPECT_EQ(fresh(), again());
  double sum = 0, squares = 0;
  for (int i = 0; i < 20000; ++i) {
    EXPECT_LT(a.below(7), 7u);
    const double draw = a.normal();
    sum += draw, squares += draw * draw;
  }
  EXPECT_NEAR(sum / 20000, 0.0, 0.03);
  EXPECT_NEAR(squares / 20000, 1.0, 0.05);
}

}  // namespace
}  // namespace fpdist
