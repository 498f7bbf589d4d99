// Ulysses: within a team, rows are exchanged for heads and back.

#include <ATen/ATen.h>

#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/parallel/context/context_exchange.hpp"

namespace fpdist::parallel {
namespace {

at::Tensor heads_of(const at::Tensor& x, int64_t parts, int64_t part) {
  const int64_t heads = x.size(1) / parts;
  return x.narrow(1, part * heads, heads);
}

/// send[m] goes to member m of the own team, receive[m] comes from it; the own part is handed over.
void exchange_with_members(const ContextExchange::Impl& exchange, const std::vector<at::Tensor>& send,
                           std::vector<at::Tensor>& receive) {
  exchange.keys.group_begin();
  for (int m = 0; m < exchange.ulysses; ++m) {
    const int peer = exchange.team * exchange.ulysses + m;
    if (m == exchange.member) continue;
    if (send[index(m)].numel() > 0) exchange.keys.send(send[index(m)], peer);
    if (receive[index(m)].numel() > 0) exchange.keys.receive(receive[index(m)], peer);
  }
  exchange.keys.group_end();
}

}  // namespace

std::vector<at::Tensor> split_heads(const ContextExchange::Impl& exchange, const std::vector<at::Tensor>& whole) {
  const int64_t parts = exchange.ulysses;
  if (parts == 1) return whole;
  int64_t heads = 0;  // of all tensors, a member
  for (const at::Tensor& x : whole) {
    check(x.size(1) % parts == 0, "parallel.ulysses is ", parts, ", which does not divide the ", x.size(1),
          " heads of a tensor-parallel rank");
    heads += x.size(1) / parts;
  }
  std::vector<at::Tensor> send, receive;
  for (int64_t m = 0; m < parts; ++m) {
    std::vector<at::Tensor> slices;
    for (const at::Tensor& x : whole) slices.push_back(heads_of(x, parts, m));
    send.push_back(at::cat(slices, 1));
    const bool is_own = m == exchange.member;
    receive.push_back(is_own ? send.back()
                             : at::empty({exchange.member_rows[index(m)], heads, whole[0].size(2)},
                                         whole[0].options().requires_grad(false)));
  }
  exchange_with_members(exchange, send, receive);
  const at::Tensor all = at::cat(receive, 0);  // members hold ascending runs of the team's rows
  std::vector<at::Tensor> result;
  int64_t first = 0;
  for (const at::Tensor& x : whole) {
    result.push_back(all.narrow(1, first, x.size(1) / parts).contiguous());
    first += x.size(1) / parts;
  }
  return result;
}

std::vector<at::Tensor> join_heads(const ContextExchange::Impl& exchange, const std::vector<at::Tensor>& parts) {
  if (exchange.ulysses == 1) return parts;
  const at::Tensor all = parts.size() == 1 ? parts[0].contiguous() : at::cat(parts, 1);
  const int64_t own_rows = exchange.member_rows[index(exchange.member)];
  std::vector<at::Tensor> send, receive;
  int64_t first = 0;
  for (int m = 0; m < exchange.ulysses; ++m) {
    const int64_t rows = exchange.member_rows[index(m)];
    send.push_back(all.narrow(0, first, rows));
    first += rows;
    receive.push_back(m == exchange.member ? send.back()
                                           : at::empty({own_rows, all.size(1), all.size(2)}, all.options()));
  }
  exchange_with_members(exchange, send, receive);
  std::vector<at::Tensor> result;
  int64_t head = 0;
  for (const at::Tensor& part : parts) {
    std::vector<at::Tensor> slices;
    for (const at::Tensor& from : receive) slices.push_back(from.narrow(1, head, part.size(1)));
    result.push_back(at::cat(slices, 1));
    head += part.size(1);
  }
  return result;
}

}  // namespace fpdist::parallel
