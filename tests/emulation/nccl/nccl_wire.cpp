#include "tests/emulation/nccl/nccl_wire.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <map>
#include <stdexcept>

namespace fpdist::emulated {
namespace {

constexpr std::chrono::milliseconds kRetry(5);

struct Expectation {
  uint64_t bytes = 0;
  int64_t kind = 0;
};

sockaddr_un address_of(const std::string& name, int rank, socklen_t& length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string whole = name + "-" + std::to_string(rank);  // behind a zero: no file
  std::memcpy(address.sun_path + 1, whole.data(), whole.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + whole.size());
  return address;
}

/// Nobody waits longer than this without looking whether it is still wanted.
void wake_often(int socket) {
  const timeval often{.tv_sec = 0, .tv_usec = 20000};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &often, sizeof often);
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &often, sizeof often);
}

bool is_only_late(ssize_t done) { return done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR); }

}  // namespace

void Wire::check_alive() const {
  if (given_up_) throw std::runtime_error("aborted");
}

void Wire::connect() {
  const int door = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t length = 0;
  sockaddr_un own = address_of(name_, rank_, length);
  if (bind(door, reinterpret_cast<sockaddr*>(&own), length) != 0 || listen(door, size_) != 0)
    throw std::runtime_error("cannot listen: " + std::string(std::strerror(errno)));
  wake_often(door);
  std::vector<int> out(static_cast<size_t>(size_), -1), in(static_cast<size_t>(size_), -1);
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const int made = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un theirs = address_of(name_, peer, length);
    while (::connect(made, reinterpret_cast<sockaddr*>(&theirs), length) != 0) {
      check_alive();
      std::this_thread::sleep_for(kRetry);
    }
    wake_often(made);
    const int32_t me = rank_;
    write_all(made, &me, sizeof me);
    out[static_cast<size_t>(peer)] = made;
  }
  for (int missing = size_ - 1; missing > 0;) {
    check_alive();
    const int came = accept(door, nullptr, nullptr);
    if (came < 0) continue;
    wake_often(came);
    int32_t peer = 0;
    read_all(came, &peer, sizeof peer);
    in[static_cast<size_t>(peer)] = came, --missing;
  }
  ::close(door);
  const std::lock_guard lock(mutex_);
  out_ = out, in_ = in;
}

void Wire::write_all(int socket, const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    check_alive();
    const ssize_t wrote = ::send(socket, static_cast<const char*>(data) + done, bytes - done, MSG_NOSIGNAL);
    if (is_only_late(wrote)) continue;
    if (wrote <= 0) throw std::runtime_error("a peer closed the connection");
    done += static_cast<size_t>(wrote);
  }
}

void Wire::read_all(int socket, void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    check_alive();
    const ssize_t got = recv(socket, static_cast<char*>(data) + done, bytes - done, 0);
    if (is_only_late(got)) continue;
    if (got <= 0) throw std::runtime_error("a peer closed the connection");
    done += static_cast<size_t>(got);
  }
}

void Wire::send(const Transfer& transfer) {
  const int socket = out_.at(static_cast<size_t>(transfer.peer));
  Expectation expected;
  read_all(socket, &expected, sizeof expected);
  if (expected.bytes != transfer.bytes || expected.kind != transfer.kind)
    throw std::runtime_error("rank " + std::to_string(rank_) + " sends " + std::to_string(transfer.bytes) +
                             " bytes of call " + std::to_string(transfer.kind) + " to rank " +
                             std::to_string(transfer.peer) + ", which expects " + std::to_string(expected.bytes) +
                             " of call " + std::to_string(expected.kind));
  write_all(socket, transfer.data, transfer.bytes);
}

void Wire::exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives) {
  for (const Transfer& receive : receives) {
    const Expectation expected{.bytes = receive.bytes, .kind = receive.kind};
    write_all(in_.at(static_cast<size_t>(receive.peer)), &expected, sizeof expected);
  }
  std::map<int, std::vector<Transfer>> by_peer;
  for (const Transfer& transfer : sends) by_peer[transfer.peer].push_back(transfer);
  std::exception_ptr failure;
  std::mutex failing;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (...) {
      const std::lock_guard lock(failing);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> senders;
  for (const auto& [peer, transfers] : by_peer)
    senders.emplace_back([&, list = &transfers] {
      attempt([&] {
        for (const Transfer& transfer : *list) send(transfer);
      });
    });
  attempt([&] {
    for (const Transfer& receive : receives)
      read_all(in_.at(static_cast<size_t>(receive.peer)), receive.data, receive.bytes);
  });
  for (std::thread& sender : senders) sender.join();
  if (failure) std::rethrow_exception(failure);
}

void Wire::give_up() {
  given_up_ = true;
  const std::lock_guard lock(mutex_);
  for (const std::vector<int>* all : {&out_, &in_})
    for (const int socket : *all)
      if (socket >= 0) shutdown(socket, SHUT_RDWR);
}

void Wire::close() {
  const std::lock_guard lock(mutex_);
  for (std::vector<int>* all : {&out_, &in_}) {
    for (const int socket : *all)
      if (socket >= 0) ::close(socket);
    all->clear();
  }
}

}  // namespace fpdist::emulated
