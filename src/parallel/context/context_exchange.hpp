#pragma once
// parallel (private): what a ContextExchange knows. N rows of the own team in this slice (or the whole pack), K_o in
// this slice and those before it, in row order.

#include <ATen/core/Tensor.h>

#include <vector>

#include "fpdist/ops/attention_calls.hpp"
#include "src/parallel/context/context_attention.hpp"

namespace fpdist::parallel {

/// A message of one round: with a member of another team, of the same number within its team.
struct RowMessage {
  int peer = 0;     ///< cp rank
  at::Tensor rows;  ///< [m] int64 on the device: send: places in the round's source; receive: places among the
                    ///< received, by row
  int64_t count = 0;
};

struct ExchangeRound {
  std::vector<RowMessage> send, receive;  ///< keys; a source is the own rows, then those received one round before
  bool relays = false;                    ///< sends rows of the round before
  ops::AttentionMask mask;                ///< of the own queries over the received rows
  ops::AttentionCallsPtr calls;           ///< likewise
  int64_t received = 0;                   ///< K
  // Key gradients of this round's rows on their way home.
  std::vector<RowMessage> give;  ///< places among the received rows, by owner
  std::vector<RowMessage> take;  ///< places among the own rows, by consumer, ascending
};

struct ContextExchange::Impl {
  comm::Communicator& keys;
  comm::Communicator& gradients;
  int ulysses = 1, team = 0, member = 0;
  std::vector<int64_t> member_rows;  ///< [ulysses] rows of each member of the own team
  ops::AttentionMask mask;           ///< of the N own queries over the K_o own keys
  ops::AttentionCallsPtr calls;      ///< likewise
  bool sliced = false;               ///< K_o may differ from N
  std::vector<ExchangeRound> round;

  int64_t rows() const { return mask.q_row.size(0); }
  int64_t key_rows() const { return mask.k_row.size(0); }
  ops::HeadPart heads() const { return {.part = member, .parts = ulysses}; }
  int rank_in(int other_team) const { return other_team * ulysses + member; }
};

/// Members' rows, all heads -> the team's rows, own heads: x [n_m, heads, D] -> [N, heads / U, D]. Several tensors
/// travel in one message a peer. Collective over the team.
std::vector<at::Tensor> split_heads(const ContextExchange::Impl& exchange, const std::vector<at::Tensor>& whole);
/// The way back: [N, heads / U, D] -> [n_m, heads, D].
std::vector<at::Tensor> join_heads(const ContextExchange::Impl& exchange, const std::vector<at::Tensor>& parts);

}  // namespace fpdist::parallel
