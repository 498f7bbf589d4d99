#include "src/comm/host/life_signs.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "src/core/index.hpp"

namespace fpdist::comm {

ProcessMpi& process_mpi() {
  static ProcessMpi mpi;
  return mpi;
}

LifeSigns::LifeSigns(const LifeSignOptions& options, std::shared_ptr<Journal> journal)
    : options_(options), journal_(std::move(journal)) {
  int size = 1;
  MPI_Comm_rank(options_.comm, &rank_);
  MPI_Comm_size(options_.comm, &size);
  sent_ = std::make_unique<std::vector<GivenSign>>(index(size));
  thread_ = std::thread([this] { run(); });
}

LifeSigns::~LifeSigns() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  thread_.join();
  const std::lock_guard lock(process_mpi().mutex);
  bool is_all_sent = true;
  for (GivenSign& sent : *sent_) is_all_sent = is_taken(sent) && is_all_sent;
  if (!is_all_sent) (void)sent_.release();  // MPI may still read it
}

bool LifeSigns::is_taken(GivenSign& sent) {
  int is_done = 1;
  if (sent.request != MPI_REQUEST_NULL) MPI_Test(&sent.request, &is_done, MPI_STATUS_IGNORE);
  return is_done;
}

void LifeSigns::run() {
  std::unique_lock lock(mutex_);
  while (!stop_changed_.wait_for(lock, options_.period, [this] { return stop_; })) {
    const std::lock_guard mpi(process_mpi().mutex);
    listen();
    if (const std::optional<std::string> work = journal_->slow_work(options_.slow_timeout)) give(*work);
  }
}

void LifeSigns::listen() {
  int is_there = 1;
  MPI_Status status;
  while (MPI_Iprobe(MPI_ANY_SOURCE, options_.tag, options_.comm, &is_there, &status) == MPI_SUCCESS && is_there) {
    std::array<char, sizeof(GivenSign::words)> words{};
    MPI_Recv(words.data(), static_cast<int>(words.size()), MPI_CHAR, status.MPI_SOURCE, options_.tag, options_.comm,
             &status);
    words.back() = '\0';
    journal_->hear(status.MPI_SOURCE, words.data());
  }
}

/// To all: whoever waits for this rank may be waited for by others. A peer that has not taken the last sign gets none.
void LifeSigns::give(const std::string& work) {
  for (int peer = 0; peer < static_cast<int>(sent_->size()); ++peer) {
    GivenSign& sent = (*sent_)[index(peer)];
    if (peer == rank_ || !is_taken(sent)) continue;
    const size_t length = std::min(work.size(), sent.words.size() - 1);
    sent.words.fill('\0');
    std::copy_n(work.begin(), length, sent.words.begin());
    MPI_Isend(sent.words.data(), static_cast<int>(length + 1), MPI_CHAR, peer, options_.tag, options_.comm,
              &sent.request);
  }
}

}  // namespace fpdist::comm
