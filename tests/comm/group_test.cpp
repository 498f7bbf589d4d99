// Groups under way: they move without being waited for, match in the order of their starts and may be waited for in any
// order. For thread and MPI ranks.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/core/error.hpp"
#include "tests/comm/rank_values.hpp"
#include "tests/support/ranks/run_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::comm {
namespace {

using test::error_of, test::run_ranks, test::values_of;

using std::chrono::microseconds;

using Works = std::vector<std::unique_ptr<Work>>;

/// Plain; with rare headers and pieces; without headers; under random delays.
std::vector<CommOptions> kinds() {
  const auto timeout = std::chrono::milliseconds(test::kPatience);
  return {{.timeout = timeout},
          {.timeout = timeout, .check_every = 3, .max_message_bytes = 1000},
          {.timeout = timeout, .check_every = 0},
          {.timeout = timeout, .max_delay = microseconds(300), .delay_seed = 5}};
}

void run_kinds(const std::function<void(World&)>& body) {
  for (const CommOptions& options : kinds()) {
    SCOPED_TRACE(testing::Message() << "check_every " << options.check_every << ", max_delay "
                                    << options.max_delay.count());
    run_ranks(body, options);
  }
}

std::unique_ptr<Work> start_send(Communicator& communicator, const at::Tensor& tensor, int peer) {
  communicator.group_begin();
  communicator.send(tensor, peer);
  return communicator.group_start();
}

std::unique_ptr<Work> start_receive(Communicator& communicator, at::Tensor& tensor, int peer) {
  communicator.group_begin();
  communicator.receive(tensor, peer);
  return communicator.group_start();
}

/// A ring of groups that are all under way at once; those at `place` of `order` are waited for in that order.
struct Ring {
  Communicator& communicator;
  int salt;
  std::vector<at::Tensor> out, in;
  Works works;

  int before() const { return (communicator.rank() + communicator.size() - 1) % communicator.size(); }
  at::Tensor message(int from, size_t i) const {
    return values_of(from * 31 + static_cast<int>(i) + salt, 3000, at::kFloat);  // equal lengths: only order tells
  }
  void start() {
    const int me = communicator.rank();
    out.push_back(message(me, out.size()));
    in.push_back(test::zeros({3000}, at::kFloat));
    communicator.group_begin();
    communicator.send(out.back(), (me + 1) % communicator.size());
    communicator.receive(in.back(), before());
    works.push_back(communicator.group_start());
  }
  void check(size_t i) {
    works[i]->wait();
    EXPECT_TRUE(at::equal(in[i], message(before(), i))) << "group " << i << " on axis " << communicator.axis();
  }
};

TEST(Groups, SeveralAreUnderWayAtOnceAndAreWaitedForInAnyOrder) {
  run_kinds([](World& world) {
    for (const bool is_reverse : {false, true}) {
      Ring ring{.communicator = world.communicator(), .salt = 0, .out = {}, .in = {}, .works = {}};
      for (int i = 0; i < 6; ++i) ring.start();
      for (size_t i = 0; i < 6; ++i) ring.check(is_reverse ? 5 - i : i);
    }
  });
}

TEST(Groups, RanksMayWaitInDifferentOrdersOnTwoCommunicators) {
  run_kinds([](World& world) {
    const auto other = world.communicator().split("other", 0, -world.rank());
    Ring first{.communicator = world.communicator(), .salt = 0, .out = {}, .in = {}, .works = {}};
    Ring second{.communicator = *other, .salt = 7, .out = {}, .in = {}, .works = {}};
    for (int i = 0; i < 4; ++i) first.start(), second.start();
    for (size_t turn = 0; turn < 8; ++turn) {
      const size_t i = (turn * 3 + static_cast<size_t>(world.rank())) % 8;
      i % 2 == 0 ? first.check(i / 2) : second.check(i / 2);
    }
    world.communicator().barrier();
  });
}

TEST(Groups, ALaterReceiveNeverTakesAnEarlierMessage) {
  run_kinds([](World& world) {
    if (world.size() == 1 || world.rank() > 1) return;
    Communicator& communicator = world.communicator();
    std::vector<at::Tensor> tensors;
    Works works;
    for (int i = 0; i < 5; ++i) {
      tensors.push_back(world.rank() == 0 ? values_of(i, 500, at::kLong) : test::zeros({500}, at::kLong));
      if (world.rank() == 0) std::this_thread::sleep_for(microseconds(200));
      works.push_back(world.rank() == 0 ? start_send(communicator, tensors[i], 1)
                                        : start_receive(communicator, tensors[i], 0));
    }
    works[4]->wait();  // done last on both sides: all have moved by then, or will
    for (int i = 0; i < 4; ++i) works[i]->wait();
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(at::equal(tensors[i], values_of(i, 500, at::kLong))) << "group " << i;
  });
}

/// One-forward-one-backward over all ranks as stages: sends are posted and finished when the next but one is posted;
/// receives block. Were sends to move only when waited for, every rank would wait for its neighbour.
void run_pipeline(World& world, int64_t numel) {
  const int stages = world.size(), stage = world.rank(), packs = stages + 3;
  const auto forward_axis = world.communicator().split("pp", 0, stage);
  const auto backward_axis = world.communicator().split("pp_gradient", 0, stage);
  const int warm_up = std::min(packs, stages - 1 - stage);
  struct Sent {
    at::Tensor tensor;
    std::unique_ptr<Work> work;
  };
  std::deque<Sent> sent;
  const auto post = [&](Communicator& axis, const at::Tensor& tensor, int peer) {
    sent.push_back({tensor, start_send(axis, tensor, peer)});
    if (sent.size() < 2u * static_cast<size_t>(stages)) return;
    sent.front().work->wait();
    sent.pop_front();
  };
  const auto forward = [&](int pack) {
    at::Tensor rows = test::full({numel}, static_cast<double>(pack), at::kDouble);
    if (stage > 0) start_receive(*forward_axis, rows, stage - 1)->wait();
    EXPECT_TRUE(at::equal(rows, test::full({numel}, pack + 100.0 * stage, at::kDouble))) << "rows of pack " << pack;
    if (stage + 1 < stages) post(*forward_axis, rows + 100, stage + 1);
  };
  const auto backward = [&](int pack) {
    at::Tensor gradient = test::full({numel}, -pack - 1.0, at::kDouble);
    if (stage + 1 < stages) start_receive(*backward_axis, gradient, stage + 1)->wait();
    EXPECT_TRUE(at::equal(gradient, test::full({numel}, -pack - 1.0 - 10.0 * (stages - 1 - stage), at::kDouble)))
        << "gradient of pack " << pack;
    if (stage > 0) post(*backward_axis, gradient - 10, stage - 1);
  };
  for (int pack = 0; pack < warm_up; ++pack) forward(pack);
  for (int pack = warm_up; pack < packs; ++pack) forward(pack), backward(pack - warm_up);
  for (int pack = packs - warm_up; pack < packs; ++pack) backward(pack);
  while (!sent.empty()) {  // newest first
    sent.back().work->wait();
    sent.pop_back();
  }
  world.communicator().barrier();
}

TEST(Groups, APipelineOfPostedSendsAndBlockingReceivesNeverStandsStill) {
  for (const int64_t numel : {3, 20000}) {
    run_kinds([numel](World& world) { run_pipeline(world, numel); });
  }
}

TEST(Groups, APostedSendReachesItsPeerWhileItsRankIsBlockedOnAnotherAxis) {
  run_kinds([](World& world) {
    if (world.size() < 3) return;
    const auto there = world.communicator().split("there", 0, world.rank());
    const auto back = world.communicator().split("back", 0, world.rank());
    at::Tensor tensor = world.rank() == 0 ? values_of(0, 100000, at::kDouble) : test::zeros({100000}, at::kDouble);
    at::Tensor answer = tensor.clone();
    const int me = world.rank();  // 0 -> 1 -> 2 -> 0, and 0 is blocked in its receive from 2 all the while
    if (me == 0) {
      const auto sent = start_send(*there, tensor, 1);
      start_receive(*back, answer, 2)->wait();
      EXPECT_TRUE(at::equal(answer, tensor));
      sent->wait();
    } else if (me < 3) {
      start_receive(*there, tensor, me - 1)->wait();
      start_send(me == 2 ? *back : *there, tensor, (me + 1) % 3)->wait();
    }
  });
}

TEST(Groups, APostedReceiveTakesItsMessageWhileItsRankIsInACollective) {
  run_kinds([](World& world) {
    if (world.size() == 1) return;
    const auto axis = world.communicator().split("cp", 0, world.rank());
    at::Tensor tensor = world.rank() == 0 ? test::zeros({100000}, at::kDouble) : values_of(1, 100000, at::kDouble);
    std::unique_ptr<Work> work;
    if (world.rank() == 0) work = start_receive(*axis, tensor, 1);
    if (world.rank() == 1) start_send(*axis, tensor, 0)->wait();  // over before this rank enters the barrier
    world.communicator().barrier();
    if (work) work->wait();
    EXPECT_TRUE(at::equal(tensor, values_of(1, 100000, at::kDouble)));
  });
}

TEST(Groups, CollectivesOfTheSameAxisMayRunBetweenStartAndWait) {
  run_kinds([](World& world) {
    Ring ring{.communicator = world.communicator(), .salt = 0, .out = {}, .in = {}, .works = {}};
    for (size_t i = 0; i < 3; ++i) {
      ring.start();
      at::Tensor sum = test::full({40000}, world.rank() + 1.0, at::kDouble);
      world.communicator().all_reduce(sum);
      EXPECT_EQ(sum[39999].item<double>(), world.size() * (world.size() + 1) / 2.0);
    }
    for (size_t i = 3; i-- > 0;) ring.check(i);
  });
}

TEST(Groups, ASendMayFinishLongAfterItsReceiverHasGoneOn) {
  run_kinds([](World& world) {
    if (world.size() == 1) return;
    at::Tensor tensor = world.rank() == 0 ? values_of(0, 9, at::kInt) : test::zeros({9}, at::kInt);
    std::unique_ptr<Work> work;
    if (world.rank() == 0) work = start_send(world.communicator(), tensor, 1);
    if (world.rank() == 1) start_receive(world.communicator(), tensor, 0)->wait();
    for (int i = 0; i < 3; ++i) world.communicator().barrier();
    if (work) work->wait();
    EXPECT_TRUE(world.rank() > 1 || at::equal(tensor, values_of(0, 9, at::kInt)));
  });
}

TEST(Groups, DoneSaysWithoutWaitingWhetherTheMessagesAreThere) {
  run_kinds([](World& world) {
    if (world.size() < 2) return;
    Communicator& communicator = world.communicator();
    const auto other = communicator.split("other", 0, world.rank());  // for the barriers
    const at::Tensor tensor = values_of(1, 40000, at::kFloat);
    std::unique_ptr<Work> work;
    if (world.rank() == 0) {
      work = start_send(communicator, tensor, 1);
      EXPECT_FALSE(work->done()) << "nobody has received it";
    }
    other->barrier();
    if (world.rank() == 1) {
      at::Tensor arrived = at::empty_like(tensor);
      start_receive(communicator, arrived, 0)->wait();
      EXPECT_TRUE(at::equal(arrived, tensor));
    }
    other->barrier();
    other->barrier();  // whatever a call moves on has been moved on
    if (world.rank() != 0) return;
    EXPECT_TRUE(work->done());
    work->wait();
  });
}

TEST(Groups, AMessageThatNobodyWaitsForEndsTheJobByName) {
  const auto body = [](World& world) {
    if (world.size() == 1) return;
    const std::string error = test::refusal<CommError>([&] {
      const auto axis = world.communicator().split("pp", 0, world.rank());
      at::Tensor tensor = test::ones({100000}, at::kDouble);
      if (world.rank() == 0) (void)start_send(*axis, tensor, 1);
      if (world.rank() > 0) world.communicator().barrier();
    });  // rank 0's communicators end with the message on its way
    EXPECT_EQ(error.find("on axis pp") != std::string::npos, world.rank() > 0) << error;
    EXPECT_EQ(error.find("never waited for") != std::string::npos, world.rank() > 0) << error;
  };
  run_ranks(body);
}

TEST(Groups, AMismatchInAPostedGroupIsNamedByWhateverCallMeetsIt) {
  run_ranks([](World& world) {
    if (world.size() == 1) return;
    std::unique_ptr<Communicator> axis;
    std::unique_ptr<Work> work;
    const std::string error = error_of<CommError>([&] {
      axis = world.communicator().split("cp", 0, world.rank());
      at::Tensor tensor = test::ones({world.rank() == 0 ? 5 : 6}, at::kDouble);
      if (world.rank() == 0) work = start_send(*axis, tensor, 1);
      if (world.rank() == 1) work = start_receive(*axis, tensor, 0);
      while (true) world.communicator().barrier();
    });
    EXPECT_NE(error.find("on axis cp"), std::string::npos) << error;
    EXPECT_NE(error.find("40 bytes of Double"), std::string::npos) << error;
    if (world.rank() != 1 || !work) return;  // the sender's part may be over
    EXPECT_NE(error_of<CommError>([&] { work->wait(); }).find("on axis cp"), std::string::npos);
  });
}

TEST(Groups, WorkUnderWayIsGivenUpWhenAnErrorUnwinds) {
  const auto body = [](World& world) {
    if (world.size() == 1) return;
    at::Tensor tensor = test::ones({100000}, at::kDouble), other = tensor.clone();
    const std::string error = error_of<CommError>([&] {
      const int peer = (world.rank() + 1) % world.size();
      const auto sent = start_send(world.communicator(), tensor, peer);
      const auto received = start_receive(world.communicator(), other, peer);
      if (world.rank() == 0) world.communicator().abort("a bad row");
      received->wait();  // in a ring of three or more nobody sends this way
      sent->wait();
      world.communicator().barrier();
    });
    EXPECT_NE(error.find("a bad row"), std::string::npos) << error;
  };
  run_ranks(body);
}

}  // namespace
}  // namespace fpdist::comm
