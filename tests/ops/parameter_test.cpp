#include "fpdist/ops/parameter.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"

namespace fpdist::ops {
namespace {

ParameterPtr make(const std::string& name, at::Tensor value) {
  auto parameter = std::make_shared<Parameter>();
  parameter->name = name;
  parameter->value = value.requires_grad_(true);
  return parameter;
}

std::vector<ParameterPtr> make_three(at::ScalarType dtype = at::kFloat) {
  return {make("norm", at::randn({3}).to(dtype)), make("up", at::randn({4, 3}).to(dtype)),
          make("down", at::randn({3, 4}).to(dtype))};
}

TEST(FlatParameters, PutsDecayedOnesFirstAndKeepsValues) {
  const auto parameters = make_three();
  const at::Tensor norm = parameters[0]->value.detach().clone(), down = parameters[2]->value.detach().clone();
  FlatParameters flat(parameters);
  EXPECT_EQ(flat.parameters()[0]->name, "up");
  EXPECT_EQ(flat.parameters()[1]->name, "down");
  EXPECT_EQ(flat.parameters()[2]->name, "norm");
  EXPECT_EQ(flat.size(), 27);
  EXPECT_EQ(flat.decayed_size(), 24);
  EXPECT_EQ(flat.offset(1), 12);
  EXPECT_EQ(flat.offset(2), 24);
  EXPECT_TRUE(at::equal(parameters[0]->value, norm) && at::equal(parameters[2]->value, down));
}

TEST(FlatParameters, ParametersAreViewsOfTheBuffersAndStayLeaves) {
  const auto parameters = make_three();
  const at::Tensor held = parameters[1]->value;  // a handle that a model may keep
  FlatParameters flat(parameters);
  flat.value().fill_(2);
  flat.main_grad().fill_(5);
  for (const auto& parameter : parameters) {
    EXPECT_EQ(parameter->value.sum().item<double>(), 2.0 * parameter->value.numel());
    EXPECT_EQ(parameter->main_grad.sum().item<double>(), 5.0 * parameter->value.numel());
    EXPECT_TRUE(parameter->value.is_leaf() && parameter->value.requires_grad());
  }
  EXPECT_EQ(held.sum().item<double>(), 24.0);
}

TEST(FlatParameters, MainGradsThatBeganAnewAreZerosOnceTheyAreSettled) {
  const auto parameters = make_three();
  FlatParameters flat(parameters);
  flat.main_grad().fill_(NAN);
  flat.begin_gradients();
  flat.settle_gradients(0, 1);  // "up"
  EXPECT_TRUE(at::equal(parameters[1]->main_grad, at::zeros({4, 3})));
  EXPECT_TRUE(at::isnan(parameters[0]->main_grad).all().item<bool>());
  EXPECT_TRUE(at::equal(flat.main_grad(), at::zeros({27})));
  flat.main_grad().fill_(1);
  EXPECT_TRUE(at::equal(flat.main_grad(), at::ones({27})));  // of the step, not of the one before
}

TEST(FlatParameters, TheFirstFoldOfAStepWritesAndTheOthersAdd) {
  const auto parameters = make_three();
  FlatParameters flat(parameters);
  flat.main_grad().fill_(NAN);
  flat.begin_gradients();
  for (int backward = 0; backward < 2; ++backward) {
    (parameters[0]->value * 3).sum().backward();
    flat.fold_gradients();
  }
  EXPECT_TRUE(at::equal(parameters[0]->main_grad, at::full({3}, 6.0f)));
}

TEST(FlatParameters, FoldsWhatPlainTorchCodeLeftInGrad) {
  const auto parameters = make_three(at::kBFloat16);
  FlatParameters flat(parameters);
  EXPECT_EQ(flat.main_grad().scalar_type(), at::kFloat);
  for (int backward = 0; backward < 2; ++backward) {
    (parameters[0]->value * 3).sum().backward();
    flat.fold_gradients();
    EXPECT_FALSE(parameters[0]->value.grad().defined());
  }
  EXPECT_TRUE(at::equal(parameters[0]->main_grad, at::full({3}, 6.0f)));
  EXPECT_EQ(parameters[1]->main_grad.abs().sum().item<double>(), 0.0);
}

TEST(FlatParameters, AccumulatesFloat64InFloat64) {
  EXPECT_EQ(FlatParameters(make_three(at::kDouble)).main_grad().scalar_type(), at::kDouble);
  EXPECT_EQ(accumulate_dtype(at::kBFloat16), at::kFloat);
}

TEST(FlatParameters, MayBeNone) {
  FlatParameters none({});
  none.begin_gradients(), none.fold_gradients();
  EXPECT_EQ(none.size() + none.main_grad().numel() + none.decayed_size(), 0);
}

TEST(FlatParameters, RefusesWhatCannotBeFlat) {
  const auto one = make("a", at::randn({2}));
  EXPECT_THROW(FlatParameters({one, one}), ShapeError);
  EXPECT_THROW(FlatParameters({one, make("b", at::randn({2}, at::kDouble))}), ShapeError);
  EXPECT_THROW(FlatParameters({std::make_shared<Parameter>()}), ShapeError);
  const auto computed = std::make_shared<Parameter>();
  computed->value = one->value * 2;
  EXPECT_THROW(FlatParameters({computed}), ShapeError);
}

}  // namespace
}  // namespace fpdist::ops
