// What a checkpoint costs beside the bare disk: a shard against the same bytes written and synced, a state that is
// verified and read against its files read once. The two arms of each go one after the other, in both orders.
//   checkpoint_speed FOLDER [MIB 1024] [ROUNDS 3]

#include <ATen/ATen.h>
#include <fcntl.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/state/training_state.hpp"
#include "src/core/clock.hpp"
#include "src/files/files.hpp"

namespace {

using namespace fpdist;

constexpr int64_t kTensors = 48;

double seconds_of(const std::function<void()>& act) {
  const auto start = Clock::now();
  act();
  return seconds_since(start);
}

/// The files of a folder are read from the disk the next time.
void forget(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const files::FileHandle file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

class Bench {
 public:
  Bench(std::string folder, int64_t mib) : folder_(std::move(folder)), elements_((mib << 20) / 4 / kTensors) {
    values_ = at::randn({kTensors, elements_});
  }
  double write_plain() const {
    return seconds_of([&] {
      files::AtomicFile file(folder_ + "/plain");
      file.append(values_.const_data_ptr(), values_.nbytes());
      file.commit();
    });
  }
  double write_shard() const {
    std::vector<checkpoint::StatePiece> pieces;
    for (int64_t i = 0; i < kTensors; ++i) pieces.push_back({text("w", i), whole(), values_[i]});
    checkpoint::StateFile shard;
    const double seconds =
        seconds_of([&] { shard = checkpoint::write_state_shard(directory(), 0, 1, std::span(pieces)); });
    checkpoint::commit_state(directory(), {&shard, 1}, {"{}", "{}"});
    return seconds;
  }
  double read_plain() const {
    forget(directory());
    return seconds_of([&] {
      for (const auto& entry : std::filesystem::directory_iterator(directory()))
        files::read_chunks(entry.path().string(), [](std::string_view) {});
    });
  }
  double resume() const {
    forget(directory());
    return seconds_of([&] {
      const checkpoint::TrainingState state(directory());
      state.verify(0, 1);
      for (const std::string& name : state.names()) {
        at::Tensor value = at::empty({elements_});
        state.read(name, whole(), value);
      }
    });
  }

 private:
  std::string directory() const { return folder_ + "/checkpoint-1"; }
  checkpoint::Region whole() const { return {{elements_}, -1, 0, 0, 0, elements_}; }

  std::string folder_;
  int64_t elements_;
  at::Tensor values_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::puts("checkpoint_speed FOLDER [MIB 1024] [ROUNDS 3]"), 2;
  const std::string folder = argv[1];
  const Bench bench(folder, argc > 2 ? std::atoll(argv[2]) : 1024);
  std::printf("%8s %12s %12s %12s %12s   seconds\n", "round", "write+fsync", "shard", "read files", "resume");
  for (int round = 0; round < (argc > 3 ? std::atoi(argv[3]) : 3); ++round) {
    double plain = 0, shard = 0, read = 0, resume = 0;
    const bool plain_first = round % 2 == 0;
    if (plain_first) plain = bench.write_plain();
    shard = bench.write_shard();
    if (!plain_first) plain = bench.write_plain();
    if (plain_first) read = bench.read_plain();
    resume = bench.resume();
    if (!plain_first) read = bench.read_plain();
    std::printf("%8d %12.3f %12.3f %12.3f %12.3f   shard/write %.2f, resume/read %.2f\n", round, plain, shard, read,
                resume, shard / plain, resume / read);
    std::fflush(stdout);
  }
  checkpoint::remove_state(folder + "/checkpoint-1");
  std::filesystem::remove(folder + "/plain");
}
