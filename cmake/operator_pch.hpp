// The heavy headers of sources that define operators and their gradients.
#include "pch.hpp"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
