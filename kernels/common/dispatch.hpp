#pragma once
// kernels: how C++ reaches the operators. The dispatcher picks the CPU twin or the CUDA version by the tensors' device,
// so libfpdist never links the CUDA library.

#include <ATen/core/dispatch/Dispatcher.h>

namespace fpdist::kernels {

/// The typed handle of fpdist::<name>; keep it in a function-local static, the lookup takes a lock.
template <typename Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace fpdist::kernels
