// The next step's packs come to the device beside the running step: what is uploaded where and when, on torch's Meta
// device.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/device/meta_aten.hpp"
#include "tests/support/device/meta_device.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

using Storage = c10::weak_intrusive_ptr<c10::StorageImpl>;

struct Events {
  std::mutex mutex;
  std::vector<std::string> lines;
  void add(const std::string& line) {
    const std::lock_guard lock(mutex);
    lines.push_back(line);
  }
};

thread_local std::vector<Storage>* making = nullptr;  // of the run_ahead that this thread is in

class WatchedDevice final : public test::MetaDevice {
 public:
  explicit WatchedDevice(Events& events) : events_(events) {}

  at::Tensor upload(const at::Tensor& host) override {
    const at::Tensor there = test::MetaDevice::upload(host);
    events_.add(making != nullptr ? "upload ahead" : "upload");
    if (making != nullptr) making->emplace_back(there.storage().getWeakStorageImpl());
    return there;
  }
  std::unique_ptr<comm::Ahead> run_ahead(const std::function<void()>& make) override {
    auto ahead = std::make_unique<Watched>(events_);
    making = &ahead->made;
    make();
    making = nullptr;
    return ahead;
  }

 private:
  struct Watched final : comm::Ahead {
    explicit Watched(Events& all) : events(all) {}
    ~Watched() override {
      const bool are_alive = std::none_of(made.begin(), made.end(), [](const Storage& one) { return one.expired(); });
      events.add(are_alive ? "end" : "end behind the tensors'");
    }
    void wait() override { events.add("wait"); }
    Events& events;
    std::vector<Storage> made;
  };
  Events& events_;
};

TEST(UploadAhead, PacksTravelBesideTheStepBeforeAndAreWaitedForOnce) {
  const fs::path dir = fs::temp_directory_path() / text("fpdist_upload_ahead_", getpid());
  fs::create_directories(dir);
  std::ofstream data(dir / "data.jsonl");
  for (int i = 0; i < 6; ++i)
    data << text(R"({"prompt_ids":[1,2,3,4,)", i, R"(],"chosen_ids":[7,8,)", 9 + i, R"(],"rejected_ids":[7,)", 20 + i,
                 "]}\n");
  data.close();
  Events events;
  comm::run_threads(1, [&](comm::World& world) {
    Config config;
    config.method = Method::kDpo;
    config.model.preset = "tiny";
    config.data.path = {(dir / "data.jsonl").string()};
    config.train = {.groups_per_step = 2, .max_steps = 3, .output_dir = (dir / "out").string()};
    NullLog log;
    Trainer trainer(world, config, log, std::make_unique<WatchedDevice>(events));
    trainer.set_hook([&](const StepMetrics& metrics) { events.add(text("step ", metrics.step)); });
    trainer.train();
  });
  fs::remove_all(dir);
  const auto count = [&](const std::string& line) {
    return std::count(events.lines.begin(), events.lines.end(), line);
  };
  EXPECT_EQ(count("upload ahead"), 2) << "a pack is one block; the first step's is laid out in the step";
  EXPECT_EQ(count("wait"), 2);
  EXPECT_EQ(count("end"), 2) << "while the tensors are there, so that their memory is not reused too early";
  EXPECT_EQ(count("end behind the tensors'"), 0);
  std::vector<std::string> order;  // of the main thread
  for (const std::string& line : events.lines)
    if (line != "upload ahead" && (line != "upload" || order.empty() || order.back() != line)) order.push_back(line);
  EXPECT_EQ(order, (std::vector<std::string>{"upload", "step 1", "wait", "upload", "end", "step 2", "wait", "upload",
                                             "end", "step 3"}));
}

}  // namespace
}  // namespace fpdist::trainer
