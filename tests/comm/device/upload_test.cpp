// How tensors come to a device, without one: a fake that copies within the host's memory, and torch's Meta device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "fpdist/comm/device.hpp"
#include "fpdist/core/error.hpp"
#include "tests/support/device/meta_device.hpp"

namespace fpdist::comm {
namespace {

/// Its memory is the host's, elsewhere.
class CopyingDevice final : public test::MetaDevice {
 public:
  at::Tensor upload(const at::Tensor& host) override {
    ++uploads;
    is_staged = is_staged && host.data_ptr() == staged;
    return host.clone();
  }
  int uploads = 0;
  bool is_staged = true;  ///< everything that was uploaded lay in the staging buffer

 protected:
  at::Tensor staging(int64_t bytes) override {
    at::Tensor buffer = test::MetaDevice::staging(bytes);
    staged = buffer.data_ptr();
    return buffer;
  }
  const void* staged = nullptr;
};

std::vector<at::Tensor> some_tensors() {
  return {at::arange(5, at::kLong),      at::empty({0}, at::kLong),          at::rand({3, 7}, at::kDouble).t(),
          at::arange(3, at::kInt).ne(1), at::scalar_tensor(2.5, at::kFloat), at::arange(9, at::kInt)};
}

std::vector<at::Tensor*> pointers(std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor*> all;
  for (at::Tensor& tensor : tensors) all.push_back(&tensor);
  return all;
}

TEST(Upload, ManySmallTensorsTravelAsOneBlockAndKeepTheirValues) {
  CopyingDevice device;
  const std::vector<at::Tensor> host = some_tensors();
  std::vector<at::Tensor> there = host;
  device.upload_all(pointers(there));
  EXPECT_EQ(device.uploads, 1);
  EXPECT_TRUE(device.is_staged);
  for (size_t i = 0; i < host.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_TRUE(at::equal(there[i], host[i]));
    EXPECT_EQ(there[i].scalar_type(), host[i].scalar_type());
    EXPECT_TRUE(there[i].is_contiguous());
    EXPECT_TRUE(there[i].is_alias_of(there[0])) << "one block";
    EXPECT_FALSE(there[i].is_alias_of(host[i]));
    EXPECT_EQ(there[i].storage_offset() * static_cast<int64_t>(there[i].element_size()) % kUploadAlignment, 0);
  }
}

TEST(Upload, ShapesAndDtypesArriveOnTheMetaDevice) {
  test::MetaDevice device;
  const std::vector<at::Tensor> host = some_tensors();
  std::vector<at::Tensor> there = host;
  device.upload_all(pointers(there));
  for (size_t i = 0; i < host.size(); ++i) {
    EXPECT_TRUE(there[i].is_meta());
    EXPECT_EQ(there[i].sizes(), host[i].sizes());
    EXPECT_EQ(there[i].scalar_type(), host[i].scalar_type());
  }
}

TEST(Upload, WhatIsNotTheHostsIsRefusedAndNothingIsChanged) {
  CopyingDevice device;
  std::vector<at::Tensor> tensors{at::ones({2}), at::empty({2}, at::TensorOptions(at::kFloat).device(at::kMeta))};
  const at::Tensor first = tensors[0];
  EXPECT_THROW(device.upload_all(pointers(tensors)), ShapeError);
  tensors[1].reset();
  EXPECT_THROW(device.upload_all(pointers(tensors)), ShapeError);
  EXPECT_TRUE(tensors[0].is_same(first));
  EXPECT_EQ(device.uploads, 0);
}

TEST(Upload, OnTheCpuTensorsStayAsTheyAre) {
  const auto device = make_cpu_device();
  const std::vector<at::Tensor> host = some_tensors();
  std::vector<at::Tensor> there = host;
  device->upload_all(pointers(there));
  for (size_t i = 0; i < host.size(); ++i) EXPECT_TRUE(there[i].is_same(host[i]));
}

TEST(Upload, WhatIsMadeAheadIsMadeOnTheCallersThread) {
  const auto device = make_cpu_device();
  std::thread::id maker;
  const auto ahead = device->run_ahead([&] { maker = std::this_thread::get_id(); });
  EXPECT_EQ(maker, std::this_thread::get_id());
  ahead->wait();
  EXPECT_THROW(device->run_ahead([] { throw std::runtime_error("no"); }), std::runtime_error);
}

}  // namespace
}  // namespace fpdist::comm
