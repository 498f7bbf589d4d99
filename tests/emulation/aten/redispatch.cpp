// Every ATen operator that has a CUDA kernel gets another one: wait for the current stream, call the CPU's on the same
// memory, hand back CUDA tensors. Views and allocation stay torch's own. What a GPU would refuse or wait for is refused
// or counted here too: tensors on two devices, and whatever makes the host wait (torch's sync debug mode).
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/copy_native.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/emulation/aten/attention.hpp"
#include "tests/emulation/aten/count_operator.hpp"
#include "tests/emulation/cuda/streams.hpp"

namespace fpdist::emulated {
namespace {

using Stack = torch::jit::Stack;

/// CPU tensors over the memory of CUDA tensors, for one call.
class Twins {
 public:
  explicit Twins(std::string name) : name_(std::move(name)) {}

  c10::IValue host_value(const c10::IValue& value) {
    if (value.isTensor()) return host(value.toTensor());
    if (value.isTensorList()) {
      c10::List<at::Tensor> all;
      for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(host(tensor));
      return all;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> all;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        all.push_back(tensor ? std::optional(host(*tensor)) : std::nullopt);
      return all;
    }
    if (value.isDevice() && value.toDevice().is_cuda()) return c10::Device(at::kCPU);
    return value;
  }

  c10::IValue device_value(const c10::IValue& value) {
    if (value.isTensor()) return device(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> all;
    for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(device(tensor));
    return all;
  }

  /// An empty `out`, which the operator makes as large as it wants.
  c10::IValue host_out(const at::Tensor& out) {
    grown_.emplace_back(out, at::empty({0}, out.options().device(at::kCPU)));
    return grown_.back().second;
  }
  void grow_outs() {
    for (auto& [there, here] : grown_) {
      at::Tensor grown = there.resize_(here.sizes());
      host(grown).copy_(here);
    }
  }

  /// As torch: only numbers may come from the host.
  void check_one_device() const {
    TORCH_CHECK(!(has_cuda_ && has_host_), "Expected all tensors to be on the same device, but ", name_,
                " was given some on cuda:0 and some on the cpu");
  }

 private:
  at::Tensor host(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      has_host_ = has_host_ || tensor.dim() > 0;
      return tensor;
    }
    has_cuda_ = true;
    auto twin = c10::make_intrusive<c10::TensorImpl>(host_storage(tensor.storage()),
                                                     c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
    twin->set_storage_offset(tensor.storage_offset());
    twin->set_sizes_and_strides(tensor.sizes(), tensor.strides());
    return at::Tensor(std::move(twin));
  }

  c10::Storage host_storage(const c10::Storage& device_storage) {
    for (const auto& [there, here] : storage_)
      if (there.is_alias_of(device_storage)) return here;
    c10::Storage here(c10::Storage::use_byte_size_t(), device_storage.nbytes(),
                      c10::DataPtr(device_storage.mutable_data(), c10::Device(at::kCPU)), nullptr, /*resizable=*/false);
    storage_.emplace_back(device_storage, here);
    return here;
  }

  at::Tensor device(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.is_cuda()) return tensor;
    for (const auto& [there, here] : storage_) {
      if (!here.is_alias_of(tensor.storage())) continue;
      return at::empty({0}, tensor.options().device(there.device()))
          .set_(there, tensor.storage_offset(), tensor.sizes(), tensor.strides());
    }
    at::Tensor moved = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCUDA));
    Twins back(name_);
    back.host(moved).copy_(tensor);
    return moved;
  }

  std::string name_;
  std::vector<std::pair<c10::Storage, c10::Storage>> storage_;
  std::vector<std::pair<at::Tensor, at::Tensor>> grown_;
  bool has_cuda_ = false, has_host_ = false;
};

bool is_mask(const c10::IValue& value) {
  if (!value.isOptionalTensorList()) return false;
  for (const std::optional<at::Tensor>& index : value.toOptionalTensorVector())
    if (index && index->defined() && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte))
      return true;
  return false;
}

/// Operators whose CUDA version reads a result on the host before it returns.
bool makes_the_host_wait(const std::string& name, const std::vector<c10::IValue>& arguments) {
  static const std::set<std::string> kWaits{"aten::_local_scalar_dense",
                                            "aten::nonzero",
                                            "aten::masked_select",
                                            "aten::equal",
                                            "aten::_unique2",
                                            "aten::unique_dim",
                                            "aten::bincount",
                                            "aten::unique_consecutive",
                                            "aten::is_nonzero",
                                            "aten::repeat_interleave"};
  if (kWaits.count(name) != 0) return true;
  if (name != "aten::index" && name != "aten::_index_put_impl_") return false;
  return std::any_of(arguments.begin(), arguments.end(), is_mask);
}

void wait_as_cuda_would() {
  count_wait();
  if (c10::cuda::warning_state().get_sync_debug_mode() != c10::cuda::SyncDebugMode::L_DISABLED)
    c10::cuda::warn_or_error_on_sync();
}

/// Results that are arguments changed in place are those arguments themselves.
const c10::IValue* changed_argument(const c10::FunctionSchema& schema, size_t result,
                                    const std::vector<c10::IValue>& arguments) {
  const c10::AliasInfo* const alias = schema.returns()[result].alias_info();
  if (alias == nullptr) return nullptr;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* const of = schema.arguments()[i].alias_info();
    if (of != nullptr && of->beforeSets() == alias->beforeSets()) return &arguments[i];
  }
  return nullptr;
}

/// Operators that change an argument without reading it.
bool writes_only(const c10::FunctionSchema& schema) {
  static const std::set<std::string> kWriters{"aten::fill_", "aten::zero_"};
  return kWriters.count(schema.name()) != 0 ||
         std::any_of(schema.arguments().begin(), schema.arguments().end(),
                     [](const c10::Argument& argument) { return argument.is_out(); });
}

/// CUDA's accumulating index_put sorts first, so that its sums have one order; the CPU's has one only when asked.
class OneOrder {
 public:
  explicit OneOrder(const std::string& name)
      : was_on_(at::globalContext().deterministicAlgorithms()),
        warned_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    if (name == "aten::_index_put_impl_") at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  ~OneOrder() { at::globalContext().setDeterministicAlgorithms(was_on_, warned_); }
  OneOrder(const OneOrder&) = delete;
  OneOrder& operator=(const OneOrder&) = delete;

 private:
  bool was_on_, warned_;
};

void on_the_cpu(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const std::string& name = schema.name();
  const at::AutoDispatchBelowADInplaceOrView below;
  const std::vector<c10::IValue> arguments = torch::jit::pop(*stack, schema.arguments().size());
  if (makes_the_host_wait(name, arguments)) wait_as_cuda_would();
  Twins twins(name);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const bool is_empty_out = schema.arguments()[i].is_out() && arguments[i].isTensor() &&
                              arguments[i].toTensor().is_cuda() && arguments[i].toTensor().numel() == 0;
    stack->push_back(is_empty_out ? twins.host_out(arguments[i].toTensor()) : twins.host_value(arguments[i]));
  }
  twins.check_one_device();
  TORCH_CHECK(name.find("mm") == name.npos || !at::globalContext().allowTF32CuBLAS(),
              "a product in TF32: fpdist's float32 is float32");
  drain_current();
  const OneOrder one_order(name);
  op.callBoxed(stack);
  twins.grow_outs();
  std::vector<c10::IValue> results = torch::jit::pop(*stack, schema.returns().size()), moved = arguments;
  for (size_t i = 0; i < results.size(); ++i) {
    const c10::IValue* const argument = changed_argument(schema, i, arguments);
    stack->push_back(argument ? *argument : twins.device_value(results[i]));
    moved.push_back(argument != nullptr && !writes_only(schema) ? *argument : argument ? c10::IValue() : stack->back());
  }
  count_operator(name, moved);
}

/// Between the host and the device torch's own copy, with its own waits.
at::Tensor& copy(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.device() != source.device()) {
    count_operator(self.is_cuda() ? "copy from the host" : "copy to the host", {self});
    return at::native::copy_(self, source, non_blocking);
  }
  count_operator("aten::copy_", {self, source});
  Twins twins("aten::copy_");
  at::Tensor into = twins.host_value(self).toTensor();
  const at::Tensor from = twins.host_value(source).toTensor();
  drain_current();
  into.copy_(from);
  return self;
}

bool is_view(const c10::FunctionSchema& schema) {
  return std::any_of(schema.returns().begin(), schema.returns().end(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

bool stays_native(const c10::FunctionSchema& schema) {
  static const std::set<std::string> kNative{"aten::empty",
                                             "aten::empty_strided",
                                             "aten::resize_",
                                             "aten::set_",
                                             "aten::record_stream",
                                             "aten::is_pinned",
                                             "aten::_pin_memory",
                                             "aten::is_set_to",
                                             "aten::_efficientzerotensor",
                                             "aten::copy_",
                                             "aten::_flash_attention_forward",
                                             "aten::_flash_attention_backward",
                                             "aten::_cudnn_attention_forward",
                                             "aten::_cudnn_attention_backward"};
  return kNative.count(schema.name()) != 0 || is_view(schema);
}

/// torch warns that kernels are replaced; that is the point.
class Silence : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

struct Redispatch {
  Redispatch() {
    Silence silence;
    c10::WarningHandler* const before = c10::WarningUtils::get_warning_handler();
    c10::WarningUtils::set_warning_handler(&silence);
    register_attention(library_);
    library_.impl("copy_", TORCH_FN(copy));
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
      const auto op = dispatcher.findOp(name);
      if (!op || !op->hasSchema() || op->schema().name().rfind("aten::", 0) != 0) continue;
      if (!op->hasKernelForDispatchKey(c10::DispatchKey::CUDA) || stays_native(op->schema())) continue;
      kept_.push_back(dispatcher.registerImpl(name, c10::DispatchKey::CUDA,
                                              c10::KernelFunction::makeFromBoxedFunction<&on_the_cpu>(), std::nullopt,
                                              nullptr, "the emulated GPU"));
    }
    c10::WarningUtils::set_warning_handler(before);
  }
  torch::Library library_ = MAKE_TORCH_LIBRARY_IMPL(aten, CUDA);
  std::vector<c10::RegistrationHandleRAII> kept_;
};
/// Stays for the life of the process.
[[maybe_unused]] const auto* const redispatch = new Redispatch;

}  // namespace

at::Tensor on_host(const at::Tensor& tensor) {
  drain_current();
  return Twins("on_host").host_value(tensor).toTensor();
}
at::Tensor on_device(const at::Tensor& host, const at::Tensor& like) {
  at::Tensor moved = at::empty_strided(host.sizes(), host.strides(), host.options().device(like.device()));
  on_host(moved).copy_(host);
  return moved;
}

}  // namespace fpdist::emulated
