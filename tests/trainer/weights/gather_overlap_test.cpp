// New weights travel while the next ones are made, and are waited for when they are read: with gathers that arrive as
// late as they may, a run has the bits of one whose gathers are waited for at once.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/parallel/zero/zero_reducer.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/late_gathers.hpp"

namespace fpdist::trainer {
namespace {

Config config_of(const MeshShape& mesh, DType dtype) {
  at::set_num_threads(1);
  Config config;
  config.method = Method::kDpo;
  config.model.preset = "tiny";
  config.model.dtype = dtype;
  config.data.path = {"none"};
  config.optim.learning_rate = 1e-2;
  config.pack.max_tokens = 70;
  static_cast<MeshShape&>(config.parallel) = mesh;
  return config;
}

/// body on every rank; `events` is null where gathers are waited for at once.
void on_ranks(const Config& config, bool is_late, const std::function<void(comm::World&, test::Events*)>& body) {
  comm::run_threads(static_cast<int>(config.parallel.size()), [&](comm::World& world) {
    if (!is_late) return body(world, nullptr);
    const auto events = std::make_shared<test::Events>();
    auto axis = std::make_unique<test::LateGathers>(world.communicator().split("world", 0, world.rank()), events);
    comm::World late(std::move(axis), world.local_size(), world.communicator().journal());
    body(late, events.get());
  });
}

struct Outcome {
  std::vector<double> losses, norms;
  std::map<std::string, at::Tensor> gradients, weights;
};

Outcome train(const Config& config, bool is_late) {
  Outcome outcome;
  on_ranks(config, is_late, [&](comm::World& world, test::Events*) {
    NullLog log;
    Trainer trainer(world, config, log);
    Outcome own;
    for (uint64_t step = 0; step < 3; ++step) {
      const auto values = trainer.step(test::random_groups(config.method, 6, 40 + step)).values;
      own.losses.push_back(values.at("loss"));
      own.norms.push_back(values.at("grad_norm"));
    }
    own.gradients = trainer.gather_gradients();
    own.weights = trainer.gather_weights();
    if (world.rank() == 0) outcome = std::move(own);
  });
  return outcome;
}

TEST(GatherOverlap, ChangesNoBit) {
  for (const auto& [mesh, dtype] :
       {std::pair(MeshShape{.dp = 3}, DType::kBFloat16), std::pair(MeshShape{.dp = 2, .pp = 2}, DType::kFloat64),
        std::pair(MeshShape{.dp = 2, .pp = 1, .cp = 2}, DType::kFloat32),
        std::pair(MeshShape{.dp = 2, .pp = 2, .cp = 1, .tp = 2}, DType::kBFloat16)})
    for (const bool recompute : {false, true}) {
      SCOPED_TRACE(text(to_string(mesh), " in ", name_of(dtype), recompute ? ", recomputed" : ""));
      Config config = config_of(mesh, dtype);
      config.model.gradient_checkpointing = recompute;
      config.pack.verify_steps = recompute ? 0 : 2;  // verification reads the weights, too
      const Outcome plain = train(config, false), late = train(config, true);
      EXPECT_EQ(plain.losses, late.losses);
      EXPECT_EQ(plain.norms, late.norms);
      for (const auto& [name, tensor] : plain.weights) EXPECT_TRUE(at::equal(tensor, late.weights.at(name))) << name;
      for (const auto& [name, tensor] : plain.gradients)
        EXPECT_TRUE(at::equal(tensor, late.gradients.at(name))) << name;
      EXPECT_FALSE(plain.weights.empty());
    }
}

thread_local test::Events* written = nullptr;

std::unique_ptr<at::ObserverContext> note_work(const at::RecordFunction& call) {
  const std::string name = call.name();
  if (written == nullptr) return nullptr;
  if (name == "aten::_fused_adamw_") written->emplace_back("update");
  const bool is_counted = name == "fpdist::tree_attention" || name == "fpdist::selected_logprob";
  const bool is_again = !written->empty() && written->back() == name;  // once for its gradient, once for the device
  if (is_counted && !is_again) written->push_back(name);
  return nullptr;
}

TEST(GatherOverlap, APieceTravelsWhileTheNextIsUpdatedAndALayerWaitsForItsOwnWeights) {
  on_ranks(config_of({.dp = 2}, DType::kFloat32), true, [](comm::World& world, test::Events* events) {
    NullLog log;
    Config config = config_of({.dp = 2}, DType::kFloat32);
    config.method = Method::kSft;
    config.pack.max_tokens = 4096;  // one pack a rank
    Trainer trainer(world, config, log);
    const auto groups = test::random_groups(config.method, 4, 7);
    at::addThreadLocalCallback(at::RecordFunctionCallback(note_work).scopes({at::RecordScope::FUNCTION}));
    written = events;
    trainer.step(groups);
    const test::Events first = std::exchange(*events, {});
    const auto last = std::find_if(first.rbegin(), first.rend(), [](const auto& e) { return e == "update"; });
    const std::string small = first.back();  // not the first gather: the embedding's bucket is
    EXPECT_EQ(std::count_if(first.begin(), first.end(), [](const auto& e) { return e.starts_with("start"); }), 2);
    EXPECT_EQ(std::count_if(first.begin(), first.end(), [](const auto& e) { return e.starts_with("wait"); }), 0)
        << "nothing waits for them in this step";
    EXPECT_TRUE(std::any_of(last, first.rend(), [](const auto& e) { return e.starts_with("start"); }))
        << "a gather is under way while the last piece is updated";
    trainer.step(groups);
    const test::Events second = std::exchange(*events, {});
    ASSERT_GE(second.size(), 3U);
    EXPECT_TRUE(second[0].starts_with("wait for")) << second[0];
    EXPECT_EQ(second[1], "wait for" + small.substr(5)) << "norms are in the bucket that was gathered last";
    written = nullptr;
    at::clearThreadLocalCallbacks();
    trainer.parameters();
    EXPECT_EQ(std::count_if(events->begin(), events->end(), [](const auto& e) { return e.starts_with("wait"); }), 2);
  });
}

TEST(GatherOverlap, ForwardWaitsLayerByLayer) {
  comm::run_threads(2, [](comm::World& world) {
    const auto events = std::make_shared<test::Events>();
    test::LateGathers axis(world.communicator().split("dp", 0, world.rank()), events);
    model::Transformer model(arch::preset_config("tiny"), {});
    model.initialize(3);
    ops::FlatParameters flat(model.parameters());
    parallel::ZeroReducer reducer(flat, axis, flat.parameters().size(), 1);  // a bucket a parameter
    reducer.set_order_of_use(model.parameters());
    model.set_use_hook([&](std::span<const ops::ParameterPtr> used) { reducer.need(used); });
    data::Sample sample;
    sample.token = sample.target = {5, 6, 7, 8, 9, 10};
    const std::vector<prefix::PackMember> members{{0, 0, &sample}};
    const auto slice = parallel::make_pack_tensors(prefix::make_layout(members, true)).slice[0];
    const auto logprobs = [&] {
      const at::NoGradGuard no_grad;
      return model.logprobs(model.forward(0, slice.rows, {}), slice.head).logp;
    };
    const at::Tensor wanted = logprobs();
    for (const size_t bucket : reducer.order_of_use()) reducer.start_gather(bucket);
    events->clear();
    at::addThreadLocalCallback(at::RecordFunctionCallback(note_work).scopes({at::RecordScope::FUNCTION}));
    written = events.get();
    const at::Tensor got = logprobs();
    written = nullptr;
    at::clearThreadLocalCallbacks();
    EXPECT_TRUE(at::equal(got, wanted));
    std::vector<size_t> waits{0};  // ahead of each attention, and of the head's log-probs
    for (const std::string& event : *events) event.starts_with("wait") ? void(++waits.back()) : waits.push_back(0);
    const auto layers = model.config().layers.size();
    ASSERT_EQ(waits.size(), layers + 2);
    for (size_t layer = 1; layer < layers; ++layer) EXPECT_EQ(waits[layer] + 1, waits[0]) << "the embedding is ahead";
    EXPECT_EQ(std::accumulate(waits.begin(), waits.end(), size_t{0}), flat.parameters().size());
    EXPECT_EQ(waits.back(), 0U);
  });
}

TEST(GatherOverlap, AStepThatIsNotFiniteLeavesTheWeightsAsTheyWere) {
  const Config config = config_of({.dp = 2}, DType::kBFloat16);
  on_ranks(config, true, [&](comm::World& world, test::Events*) {
    NullLog log;
    Trainer trainer(world, config, log);
    const auto groups = test::random_groups(config.method, 4, 7);
    trainer.step(groups);
    const at::Tensor before = trainer.parameters().value().clone();
    EXPECT_TRUE(before.isfinite().all().item<bool>());
    trainer.set_loss([&](const loss::Edges& edges, const plan::StepTotals&) {
      return loss::LossOutput{.loss = edges.logp.sum() * (world.rank() == 1 ? std::nan("") : 1.0), .metrics = {}};
    });
    EXPECT_THROW(trainer.step(groups), NumericsError);
    EXPECT_TRUE(at::equal(trainer.parameters().value(), before));
  });
}

}  // namespace
}  // namespace fpdist::trainer
