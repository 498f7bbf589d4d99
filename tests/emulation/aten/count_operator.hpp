#pragma once
// Emulated GPU: how its operators write down what they were asked (operator_counts.hpp).

#include <ATen/core/ivalue.h>

#include <string>

namespace fpdist::emulated {

/// A call's arguments and results, but those that are an argument changed in place.
void count_operator(const std::string& name, c10::ArrayRef<c10::IValue> values);

}  // namespace fpdist::emulated
