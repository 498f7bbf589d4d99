// PTX writes a register about once, so a kernel has thousands of names. Liveness and a linear scan over hulls of lives
// bring them to what a warp needs at once, which the CPU's cache holds. Lanes have their own slots, so divergence does
// not matter; a guarded write does not end a life.
#include <algorithm>
#include <set>

#include "tests/emulation/ptx/decode.hpp"

namespace fpdist::ptx {
namespace {

using Bits = std::vector<bool>;

struct BasicBlock {
  size_t begin = 0, end = 0;
  std::vector<size_t> next{};
  Bits used{}, defined{}, live_in{}, live_out{};
};

class Colouring {
 public:
  explicit Colouring(Kernel& kernel) : kernel_(kernel) {
    for (size_t w = 0; w < kWidths; ++w) first_[w + 1] = first_[w] + kernel.names[w];
    is_pinned_.assign(first_[kWidths], false);
    for (size_t w = 0; w < kWidths; ++w) is_pinned_[first_[w]] = true;
    for (const auto& [reg, value] : kernel.constant) is_pinned_[id_of(reg)] = true;
    for (const auto& [reg, which] : kernel.special) is_pinned_[id_of(reg)] = true;
  }

  void run() {
    cut_blocks();
    find_live();
    find_lives();
    assign();
    rename();
  }

 private:
  size_t id_of(Register reg) const { return first_[static_cast<size_t>(reg.width)] + reg.number; }
  size_t width_of(size_t id) const { return id < first_[1] ? 0 : id < first_[2] ? 1 : 2; }

  void cut_blocks() {
    const std::vector<Op>& code = kernel_.code;
    std::set<size_t> start{0};
    for (size_t i = 0; i < code.size(); ++i) {
      if (code[i].flow == Flow::kNext) continue;
      start.insert(i + 1);
      if (code[i].flow == Flow::kBranch) start.insert(code[i].target);
    }
    std::vector<size_t> block_at(code.size() + 1, 0);
    for (const size_t begin : start) {
      if (begin >= code.size()) continue;
      const auto after = start.upper_bound(begin);
      block_at[begin] = block_.size();
      block_.push_back({.begin = begin, .end = after == start.end() ? code.size() : std::min(*after, code.size())});
    }
    for (BasicBlock& block : block_) {
      const Op& last = code[block.end - 1];
      if (last.flow == Flow::kBranch && last.target < code.size()) block.next.push_back(block_at[last.target]);
      const bool goes_on = last.flow == Flow::kNext || last.guard;
      if (goes_on && block.end < code.size()) block.next.push_back(block_at[block.end]);
    }
  }

  void find_live() {
    const size_t names = first_[kWidths];
    for (BasicBlock& block : block_) {
      block.used = block.defined = block.live_in = block.live_out = Bits(names, false);
      for (size_t i = block.begin; i < block.end; ++i) {
        const Op& op = kernel_.code[i];
        for (const Register reg : op.reads)
          if (!block.defined[id_of(reg)]) block.used[id_of(reg)] = true;
        for (const Register reg : op.writes) {
          if (!op.guard)
            block.defined[id_of(reg)] = true;
          else if (!block.defined[id_of(reg)])
            block.used[id_of(reg)] = true;
        }
      }
    }
    for (bool is_changed = true; is_changed;) {
      is_changed = false;
      for (size_t b = block_.size(); b-- > 0;) is_changed = flow_back(block_[b]) || is_changed;
    }
  }

  bool flow_back(BasicBlock& block) {
    for (const size_t next : block.next)
      for (size_t id = 0; id < block.live_out.size(); ++id)
        if (block_[next].live_in[id]) block.live_out[id] = true;
    bool is_changed = false;
    for (size_t id = 0; id < block.live_in.size(); ++id) {
      const bool is_live = block.used[id] || (block.live_out[id] && !block.defined[id]);
      if (is_live && !block.live_in[id]) block.live_in[id] = is_changed = true;
    }
    return is_changed;
  }

  void find_lives() {
    life_.assign(first_[kWidths], {kernel_.code.size(), 0});
    const auto grow = [&](size_t id, size_t at) {
      life_[id] = {std::min(life_[id].first, at), std::max(life_[id].second, at)};
    };
    for (size_t i = 0; i < kernel_.code.size(); ++i) {
      for (const Register reg : kernel_.code[i].reads) grow(id_of(reg), i);
      for (const Register reg : kernel_.code[i].writes) grow(id_of(reg), i);
    }
    for (const BasicBlock& block : block_)
      for (size_t id = 0; id < life_.size(); ++id) {
        if (block.live_in[id]) grow(id, block.begin);
        if (block.live_out[id]) grow(id, block.end);
      }
    if (block_.empty()) return;
    for (const Op& op : kernel_.code)
      for (const Register reg : op.reads)
        if (block_[0].live_in[id_of(reg)]) kernel_.read_before_written.push_back(op.place + ": " + op.text);
  }

  void assign() {
    colour_.assign(life_.size(), 0);
    std::vector<size_t> order;
    for (size_t id = 0; id < life_.size(); ++id) {
      if (is_pinned_[id])
        colour_[id] = id == first_[width_of(id)] ? 0 : kernel_.registers[width_of(id)]++;
      else if (life_[id].first <= life_[id].second)
        order.push_back(id);
    }
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::pair(life_[a].first, a) < std::pair(life_[b].first, b); });
    std::vector<uint32_t> free[kWidths];
    std::set<std::pair<size_t, size_t>> alive;  // where it ends, which
    for (const size_t id : order) {
      while (!alive.empty() && alive.begin()->first < life_[id].first) {
        const size_t dead = alive.begin()->second;
        free[width_of(dead)].push_back(colour_[dead]);
        alive.erase(alive.begin());
      }
      std::vector<uint32_t>& idle = free[width_of(id)];
      colour_[id] = idle.empty() ? kernel_.registers[width_of(id)]++ : idle.back();
      if (!idle.empty()) idle.pop_back();
      alive.insert({life_[id].second, id});
    }
  }

  void rename() {
    const auto rename = [&](Register& reg) {
      if (reg) reg.number = colour_[id_of(reg)];
    };
    for (Op& op : kernel_.code) {
      for (Register* const reg : {&op.guard, &op.d, &op.d2, &op.a, &op.b, &op.c, &op.e}) rename(*reg);
      for (auto* const list : {&op.to, &op.from, &op.from_b, &op.from_c})
        for (Register& reg : *list) rename(reg);
    }
    for (auto& [reg, value] : kernel_.constant) rename(reg);
    for (auto& [reg, which] : kernel_.special) rename(reg);
  }

  Kernel& kernel_;
  size_t first_[kWidths + 1] = {};
  std::vector<bool> is_pinned_;
  std::vector<BasicBlock> block_;
  std::vector<std::pair<size_t, size_t>> life_;
  std::vector<uint32_t> colour_;
};

}  // namespace

void colour(Kernel& kernel) { Colouring(kernel).run(); }

}  // namespace fpdist::ptx
